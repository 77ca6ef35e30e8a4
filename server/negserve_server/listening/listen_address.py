"""Addresses to listen on: parsed, and tried, before anything costly is done."""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negserve.types.checks.address import Address, parse_address
from negserve_server.errors import UnusableAddress


@dataclass(frozen=True, slots=True)
class ListenAddress(Address):
    """An address to listen on.

    :ivar text: as it was given
    """

    text: str = ""

    def overlaps(self, other: ListenAddress) -> bool:
        """Tell whether one process can't listen on both."""
        if self.path or other.path:
            return self.path == other.path
        same_host = self.host == other.host or bool({self.host, other.host} & {"0.0.0.0", "::"})
        return self.port == other.port != 0 and same_host

    def check(self) -> None:
        """Try whether this process could listen there now.

        :raises UnusableAddress: naming why not
        """
        if self.path:
            _check_path(self)
        else:
            _check_host_and_port(self)


def parse_listen_address(text: str) -> ListenAddress:
    """Parse an address: ``HOST:PORT``, with brackets around an IPv6 host, or ``unix:PATH``.

    :raises UnusableAddress: naming what is wrong, and what to give
    """
    try:
        address = parse_address(text, least_port=0)
    except ValueError as error:
        raise UnusableAddress(text, str(error)) from None
    return ListenAddress(address.host, address.port, address.path, text)


def _check_path(address: ListenAddress) -> None:
    path = Path(address.path)
    folder = path.parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UnusableAddress(address.text, f"{folder} {what}; create the folder")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UnusableAddress(address.text, f"{path}: {error.strerror}") from error
    else:
        if not stat.S_ISSOCK(mode):
            raise UnusableAddress(
                address.text, f"{path} exists and is not a socket; give another path"
            )
        if _answers(address.path):
            # gRPC would replace the socket of that process.
            raise UnusableAddress(
                address.text, "another process listens there; stop it, or give another path"
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnusableAddress(
            address.text, f"the user of this process may not write to the folder {folder}"
        )


def _answers(path: str) -> bool:
    """Tell whether a process listens on a unix socket; a file left behind does not answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno == errno.EAGAIN  # its queue is full
    return True


def places_of(address: ListenAddress) -> list[tuple[Any, ...]]:
    """Resolve host and port, as :func:`socket.getaddrinfo` does.

    :raises UnusableAddress: if the host can't be resolved
    """
    try:
        return list(
            socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UnusableAddress(
            address.text, f"the host {address.host!r} can't be resolved: {why}"
        ) from error


def _check_host_and_port(address: ListenAddress) -> None:
    found = places_of(address)
    failures: list[OSError] = []
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does: a port in TIME_WAIT is free, and IPv6 has ports of its own.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(place)
        except OSError as error:
            failures.append(error)
    # A name such as localhost may stand for an address of a family that the machine lacks.
    telling = [e for e in failures if e.errno in {errno.EADDRINUSE, errno.EACCES}]
    if telling or len(failures) == len(found):
        failure = (telling or failures)[0]
        raise UnusableAddress(address.text, why_unusable(address, failure)) from failure


def why_unusable(address: ListenAddress, error: OSError) -> str:
    """Say why a socket can't be bound, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"another process has port {address.port}; stop it (ss -ltnp 'sport = :{address.port}' "
            f"names it), or give another port"
        )
    if error.errno == errno.EACCES:
        return (
            f"the user of this process may not listen on port {address.port}; give one above 1023"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{address.host} is not an address of this machine; give one that is, or 0.0.0.0 for "
            f"all"
        )
    return error.strerror or str(error)
