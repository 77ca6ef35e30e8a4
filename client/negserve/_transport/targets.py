"""Addresses of servers: their check, and what they say of the way to a server."""

from __future__ import annotations

import re
from collections.abc import Sequence

from negserve.errors import InvalidRequestError
from negserve.types.checks.address import FORM, is_loopback, parse_address

#: gRPC's own names for ways to resolve an address.
_RESOLVERS = frozenset({"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds"})
_UNIX = ("unix:", "unix-abstract:")
#: Characters of a target that an error repeats.
_MOST_SHOWN = 200
_LISTS = re.compile(r"^(ipv4:|ipv6:|dns:(///?)?)")


def checked_targets(target: str | Sequence[str]) -> tuple[str, ...]:
    """Check addresses of servers.

    :param target: ``HOST:PORT`` or ``unix:PATH``; or a target that begins with a resolver of gRPC,
        such as ``dns:`` or ``ipv4:``, which only gRPC checks; or several of these
    :raises InvalidRequestError: if there is none, or saying what is wrong with one and what to give
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    if not targets:
        raise InvalidRequestError(f"there is no target; {FORM}")
    for each in targets:
        _check(each)
    return targets


def _check(target: str) -> None:
    if not isinstance(target, str):
        raise InvalidRequestError(f"target {_shown(target)} is no text; {FORM}")
    if not target:
        raise InvalidRequestError(f"target is empty; {FORM}")
    if any(character.isspace() or not character.isprintable() for character in target):
        raise InvalidRequestError(
            f"target {_shown(target)} has a blank or a control character; {FORM}; "
            f"several targets are a list, not one text"
        )
    if is_for_grpc(target):
        return
    try:
        parse_address(target, least_port=1)
    except ValueError as error:
        hint = " (NEGSERVE_CA_FILE or NEGSERVE_TLS=1 turn TLS on)" if "://" in target else ""
        raise InvalidRequestError(f"target {_shown(target)}: {error}{hint}") from None


def _shown(text: str) -> str:
    """Quote a target, without the end of a long one."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def is_for_grpc(target: str) -> bool:
    """Tell whether a target begins with a resolver of gRPC, which alone understands it."""
    resolver, _, rest = target.partition(":")
    # A host may be called dns, too.
    return resolver in _RESOLVERS - {"unix"} and (
        resolver == "unix-abstract" or bool({*":/"} & {*rest})
    )


def is_unix(target: str) -> bool:
    """Tell whether a target is a unix socket."""
    return target.startswith(_UNIX)


def is_on_this_machine(target: str) -> bool:
    """Tell whether what is sent to a target never leaves this machine."""
    return is_unix(target) or all(
        is_loopback(_host(address)) for address in _LISTS.sub("", target).split(",")
    )


def _host(address: str) -> str:
    host, separator, port = address.rpartition(":")
    if not separator or port.endswith("]"):
        host = address  # without a port
    return host.removeprefix("[").removesuffix("]")
