"""Addresses, ``HOST:PORT`` or ``unix:PATH``: what a server listens on and a client connects to."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

#: What to give, for errors.
FORM = "give HOST:PORT, such as 127.0.0.1:7733, or unix:PATH"
UNIX = "unix:"

#: Largest path in the system's address of a unix socket, without the byte that ends it.
_MAX_PATH_BYTES = 107
#: Characters of a port that an error repeats.
_MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address or a unix socket.

    :ivar host: without brackets; empty for a unix socket
    :ivar port: 0 for a unix socket, and for any free port
    :ivar path: path of the unix socket; empty for a TCP address
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether other machines can't reach it."""
        return bool(self.path) or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host, without brackets, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str, *, least_port: int) -> Address:
    """Parse an address; an IPv6 host has brackets.

    :param least_port: smallest port; 0 where the system may choose one
    :raises ValueError: naming what is wrong, and what to give
    """
    if text.startswith(UNIX):
        return Address(path=_path(text.removeprefix(UNIX)))
    if "://" in text:
        rest = text.partition("://")[2].partition("/")[0]
        raise ValueError(f"this is a URL; give its address alone, {rest or 'HOST:PORT'!r}")
    host, separator, port = text.rpartition(":")
    if not separator or port.endswith("]"):
        raise ValueError(f"no {'host' if text.isdecimal() else 'port'}; {FORM}")
    if "/" in text:
        raise ValueError(f"a TCP address has no path; {FORM}")
    if not host:
        raise ValueError(f"no host; {FORM}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError("the text in brackets is not an IPv6 address") from None
    elif ":" in host or host.startswith("["):
        raise ValueError("an IPv6 address needs brackets, such as [::1]:7733")
    if not (port.isascii() and port.isdecimal() and least_port <= int(port[:6]) <= 65535):
        shown = port if len(port) <= _MAX_SHOWN else f"{port[:_MAX_SHOWN]}..."
        free = ", or 0 for a free one" if least_port == 0 else ""
        raise ValueError(f"invalid port {shown!r}; give 1 to 65535{free}")
    return Address(host=host, port=int(port))


def _path(path: str) -> str:
    if not path.strip("/"):
        raise ValueError("no path; give unix:PATH")
    num_bytes = len(os.fsencode(path))
    if num_bytes > _MAX_PATH_BYTES:
        raise ValueError(
            f"the path has {num_bytes} bytes, the limit for a unix socket is {_MAX_PATH_BYTES}"
        )
    return path
