"""Addresses of servers, checked before anybody is asked."""

from __future__ import annotations

from collections.abc import Sequence

from negserve.errors import InvalidRequestError
from negserve.types.address import FORM, UNIX, parse_address

#: gRPC's own names for ways to resolve an address.
_RESOLVERS = frozenset({"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds"})
#: Characters of a target that an error repeats.
_MOST_SHOWN = 200


def checked_targets(target: str | Sequence[str]) -> tuple[str, ...]:
    """Give addresses that servers may listen at.

    :param target: ``HOST:PORT`` or ``unix:PATH``; or what begins with a resolver of gRPC, such as
        ``dns:`` or ``ipv4:``, which is left to gRPC; or several of these
    :raises InvalidRequestError: if there is none; else naming what is wrong with one, and what to
        give
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
    if _is_for_grpc(target):
        return
    try:
        parse_address(target, least_port=1)
    except ValueError as error:
        hint = " (NEGSERVE_CA_FILE or NEGSERVE_TLS=1 turn TLS on)" if "://" in target else ""
        raise InvalidRequestError(f"target {_shown(target)}: {error}{hint}") from None


def _shown(text: str) -> str:
    """Write what was given, its beginning alone if it is long."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def _is_for_grpc(target: str) -> bool:
    if target.startswith(UNIX):
        return False
    resolver, _, rest = target.partition(":")
    # A host may be called dns, too.
    return resolver in _RESOLVERS and (resolver == "unix-abstract" or bool({*":/"} & {*rest}))
