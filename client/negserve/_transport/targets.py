"""Addresses of servers, checked before anybody is asked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from negserve.errors import InvalidRequestError

#: gRPC's own names for ways to resolve an address.
_RESOLVERS = frozenset({"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: What the system's address of a unix socket takes, without the byte that ends it.
#: Characters of a target that an error repeats.
_MOST_SHOWN = 200
_MOST_PATH_BYTES = 107
_FORM = "give HOST:PORT, such as 127.0.0.1:7733, or unix:PATH"


def checked_targets(target: str | Sequence[str]) -> tuple[str, ...]:
    """Give addresses that servers may listen at.

    :param target: ``HOST:PORT`` or ``unix:PATH``; or what begins with a resolver of gRPC, such as
        ``dns:`` or ``ipv4:``, which is left to gRPC; or several of these
    :raises InvalidRequestError: if there is none; else naming what is wrong with one, and what to
        give
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    if not targets:
        raise InvalidRequestError(f"there is no target; {_FORM}")
    for each in targets:
        _check(each)
    return targets


def _check(target: str) -> None:
    if not isinstance(target, str):
        raise InvalidRequestError(f"target {_shown(target)} is no text; {_FORM}")
    if not target:
        raise InvalidRequestError(f"target is empty; {_FORM}")
    if any(character.isspace() or not character.isprintable() for character in target):
        raise InvalidRequestError(
            f"target {_shown(target)} has a blank or a control character; {_FORM}; "
            f"several targets are a list, not one text"
        )
    scheme = _SCHEME.match(target)
    if scheme is not None and scheme[1] not in _RESOLVERS:
        rest = target[scheme.end() :].partition("/")[0]
        raise InvalidRequestError(
            f"target {_shown(target)} is a URL; give its address alone, {rest or 'HOST:PORT'!r} "
            f"(NEGSERVE_CA_FILE or NEGSERVE_TLS=1 turn TLS on)"
        )
    if target.startswith("unix:"):
        _check_path(target)
    elif not _is_for_grpc(target):
        _check_host_and_port(target)


def _shown(text: str) -> str:
    """Write what was given, its beginning alone if it is long."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def _is_for_grpc(target: str) -> bool:
    resolver, _, rest = target.partition(":")
    # A host may be called dns, too.
    return resolver in _RESOLVERS and (resolver == "unix-abstract" or bool({*":/"} & {*rest}))


def _check_path(target: str) -> None:
    path = target.removeprefix("unix:")
    if not path.strip("/"):
        raise InvalidRequestError(f"target {_shown(target)} has no path; give unix:PATH")
    num_bytes = len(path.encode(errors="surrogateescape"))
    if num_bytes > _MOST_PATH_BYTES:
        raise InvalidRequestError(
            f"target {_shown(target)} has a path of {num_bytes} bytes; the most for a unix socket "
            f"are {_MOST_PATH_BYTES}"
        )


def _check_host_and_port(target: str) -> None:
    host, separator, port = target.rpartition(":")
    if not separator or port.endswith("]"):
        what = "host" if target.isdecimal() else "port"
        raise InvalidRequestError(f"target {_shown(target)} has no {what}; {_FORM}")
    if "/" in target:
        raise InvalidRequestError(f"target {_shown(target)} has a path; {_FORM}")
    if not host:
        raise InvalidRequestError(f"target {_shown(target)} has no host; {_FORM}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise InvalidRequestError(
            f"target {_shown(target)}: an IPv6 address has brackets, such as [::1]:7733"
        )
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1].partition("%")[0])
        except ValueError:
            raise InvalidRequestError(
                f"target {_shown(target)}: what is in the brackets is no IPv6 address"
            ) from None
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        raise InvalidRequestError(
            f"target {_shown(target)}: the port {_shown(port)} is none; give 1 to 65535, the "
            f"default of a server is 7733"
        )
