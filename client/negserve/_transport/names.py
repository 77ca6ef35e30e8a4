"""Names of several servers: which targets are such names, and the addresses of one."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from negserve._transport.targets import is_for_grpc
from negserve.types.checks.address import Address, is_loopback, parse_address

#: What the system's resolver is asked for: addresses that this machine can reach.
RESOLVER_OPTIONS: Mapping[str, Any] = {
    "type": socket.SOCK_STREAM,
    "flags": socket.AI_ADDRCONFIG,
}
#: Variables of gRPC, which knows no capital letters here: a proxy, and hosts without it.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_DIRECT_VARIABLES = ("no_grpc_proxy", "no_proxy")
_IPV6_SOCKET = 4  # fields of its address, of which an IPv4 socket's has two


def name_in(target: str) -> Address | None:
    """Return the host and port of a target that this client resolves; None for all others.

    gRPC resolves those that begin with one of its resolvers. A proxy of the environment resolves
    names itself.

    :param target: a checked target
    """
    if is_for_grpc(target):
        return None
    address = parse_address(target, least_port=1)
    if address.path or is_loopback(address.host) or _is_literal(address.host):
        return None
    return None if _is_proxied(address.host) else address


def addresses_of(answers: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the addresses of a name's servers, or none if it may be the name of a single one.

    A server with an IPv4 and an IPv6 address is one server: so all are of the family that has
    more of them. gRPC connects to a single server by its name, over the family that works.

    :param answers: as of :func:`socket.getaddrinfo`
    :return: ``HOST:PORT`` each
    """
    by_family: dict[int, dict[str, None]] = {}
    for *_, socket_address in answers:
        host, port = socket_address[:2]
        is_ipv6 = len(socket_address) == _IPV6_SOCKET
        text = f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"
        by_family.setdefault(len(socket_address), {})[text] = None
    # The resolver's first family, if both have equally many.
    most = max(by_family.values(), key=len, default={})
    return tuple(most) if len(most) > 1 else ()


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_proxied(host: str) -> bool:
    """Tell whether gRPC would reach a host over a proxy of the environment."""
    if not any(os.environ.get(name) for name in _PROXY_VARIABLES):
        return False
    given = [os.environ.get(name) for name in _DIRECT_VARIABLES]
    direct = next(filter(None, given), "")
    endings = [ending for entry in direct.split(",") if (ending := entry.strip())]
    return not any(host.endswith(ending) for ending in endings)
