"""Addresses to listen on: read, and tried, before anything costly is done."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from negserve_server.errors import UnusableAddress

#: What the system's address of a unix socket takes, without the byte that ends it.
_MOST_PATH_BYTES = 107
_FORM = "give HOST:PORT, such as 127.0.0.1:7733, or unix:PATH"
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on.

    :ivar text: as it was given
    :ivar host: without brackets; empty for a unix socket
    :ivar port: 0 for a free one
    :ivar path: of the unix socket; empty for a TCP address
    """

    text: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Tell whether nobody reaches it from another machine."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

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
    """Read an address: ``HOST:PORT``, with brackets around an IPv6 host, or ``unix:PATH``.

    :raises UnusableAddress: naming what is wrong, and what to give
    """
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        num_bytes = len(os.fsencode(path))
        if not path.strip("/"):
            raise UnusableAddress(text, "there is no path; give unix:PATH")
        if num_bytes > _MOST_PATH_BYTES:
            raise UnusableAddress(
                text,
                f"the path has {num_bytes} bytes; the most for a unix socket are "
                f"{_MOST_PATH_BYTES}",
            )
        return ListenAddress(text, path=path)
    if "://" in text:
        rest = text.partition("://")[2].partition("/")[0]
        raise UnusableAddress(text, f"that is a URL; give its address alone, {rest or 'HOST:PORT'}")
    host, separator, port = text.rpartition(":")
    if not separator or port.endswith("]"):
        what = "host" if text.isdecimal() else "port"
        raise UnusableAddress(text, f"there is no {what}; {_FORM}")
    if not host:
        raise UnusableAddress(
            text,
            f"there is no host; give 127.0.0.1:{port} for this machine, 0.0.0.0:{port} for all",
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise UnusableAddress(text, "what is in the brackets is no IPv6 address") from None
    elif ":" in host:
        raise UnusableAddress(text, f"{_FORM}; an IPv6 address has brackets, such as [::1]:7733")
    if not (port.isascii() and port.isdecimal() and int(port[:6]) <= 65535):
        raise UnusableAddress(
            text, f"the port {port!r} is none; give 1 to 65535, or 0 for a free one"
        )
    return ListenAddress(text, host=host, port=int(port))


def _check_path(address: ListenAddress) -> None:
    path = Path(address.path)
    folder = path.parent
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UnusableAddress(address.text, f"the folder {folder} {what}; make it")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UnusableAddress(address.text, f"{path}: {error.strerror}") from error
    else:
        if not stat.S_ISSOCK(mode):
            raise UnusableAddress(
                address.text, f"{path} is there, and is no socket; give another path"
            )
        if _answers(address.path):
            # gRPC would take the path away from it.
            raise UnusableAddress(
                address.text, "another process listens there; stop it, or give another path"
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnusableAddress(
            address.text, f"the user of this process may not write to the folder {folder}"
        )


def _answers(path: str) -> bool:
    """Tell whether somebody listens on a unix socket; a file left behind does not answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno == errno.EAGAIN  # more wait there than it takes
    return True


def _check_host_and_port(address: ListenAddress) -> None:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UnusableAddress(
            address.text, f"the host {address.host!r} can't be resolved: {why}"
        ) from error
    failures: list[OSError] = []
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC: a port in TIME_WAIT is free, and IPv6 has a port of its own.
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
        raise UnusableAddress(address.text, _why(address, failure)) from failure


def _why(address: ListenAddress, error: OSError) -> str:
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
            f"{address.host} is no address of this machine; give one of its own, or 0.0.0.0 for all"
        )
    return error.strerror or str(error)
