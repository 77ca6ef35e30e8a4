"""Addresses of TCP and unix sockets, as clients connect to them and servers listen on them."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

FORM = "give HOST:PORT, such as 127.0.0.1:7733, or unix:PATH"
_UNIX = "unix:"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: Bytes of the path in the system's address of a unix socket, without the byte that ends it.
_MOST_PATH_BYTES = 107
#: Characters of a part that an error repeats.
_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address.

    :ivar host: without brackets; empty for a unix socket
    :ivar port: 0 for a unix socket
    :ivar path: of the unix socket; empty for a TCP address
    """

    host: str = ""
    port: int = 0
    path: str = ""


def parse_address(text: str, lowest_port: int = 1) -> Address:
    """Parse ``HOST:PORT``, with brackets around an IPv6 host, or ``unix:PATH``.

    :param lowest_port: 0 where that stands for any free port
    :raises ValueError: saying what is wrong and what to give, to be read after the address
    """
    if text.startswith(_UNIX):
        return Address(path=_parse_path(text.removeprefix(_UNIX)))
    url = _URL.match(text)
    if url is not None:
        rest = text[url.end() :].partition("/")[0]
        raise ValueError(f"is a URL; give its address alone, {rest or 'HOST:PORT'!r}")
    host, separator, port = text.rpartition(":")
    if not separator or port.endswith("]"):
        raise ValueError(f"has no {'host' if text.isdecimal() else 'port'}; {FORM}")
    if "/" in text:
        raise ValueError(f"has a path; {FORM}")
    if not host:
        raise ValueError(f"has no host; {FORM}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError("has no IPv6 address in its brackets; give one, or a name") from None
    elif ":" in host:
        raise ValueError("has an IPv6 address without brackets; give [::1]:7733, for example")
    if not (port.isascii() and port.isdecimal() and lowest_port <= int(port[:6]) <= 65535):
        free = ", or 0 for a free one" if lowest_port == 0 else "; the default of a server is 7733"
        raise ValueError(f"has the port {shown(port)}; give 1 to 65535{free}")
    return Address(host, int(port))


def _parse_path(path: str) -> str:
    if not path.strip("/"):
        raise ValueError("has no path; give unix:PATH")
    num_bytes = len(os.fsencode(path))
    if num_bytes > _MOST_PATH_BYTES:
        raise ValueError(
            f"has a path of {num_bytes} bytes; a unix socket takes at most {_MOST_PATH_BYTES}"
        )
    return path


def is_loopback(host: str) -> bool:
    """Tell whether a host, without brackets, is this machine and no other."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(text: object) -> str:
    """Quote a text that was given, without the end of a long one."""
    if isinstance(text, str) and len(text) > _MOST_SHOWN:
        text = f"{text[:_MOST_SHOWN]}..."
    return repr(text)
