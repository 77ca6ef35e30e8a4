"""How much a server does a second, from two of its statuses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from negserve.v1 import admin_pb2 as pb

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Rates:
    """What happens a second; None where a count is new, or has fallen as one of an ended process.

    :ivar negatives: of all datasets together; None if nothing is known
    :ivar negatives_of: by dataset
    :ivar requests_of: by dataset, of all RPCs
    :ivar negatives_for: by caller and address of the peer
    """

    negatives: float | None = None
    negatives_of: dict[str, float | None] = field(default_factory=dict)
    requests_of: dict[str, float | None] = field(default_factory=dict)
    negatives_for: dict[tuple[str, str], float | None] = field(default_factory=dict)


def rates_between(
    before: pb.GetServerStatusResponse | None, now: pb.GetServerStatusResponse
) -> Rates:
    """Compute the rates from one status to a later one.

    :param before: the earlier one; None if there is none, which gives no rates
    """
    if before is None or now.uptime_seconds <= before.uptime_seconds:
        return Rates()  # or the server was started again
    seconds = now.uptime_seconds - before.uptime_seconds
    negatives_of = _differences(_negatives(before), _negatives(now), seconds)
    known = [rate for rate in negatives_of.values() if rate is not None]
    return Rates(
        sum(known) if known else None,
        negatives_of,
        _differences(_requests(before), _requests(now), seconds),
        _differences(_of_peers(before), _of_peers(now), seconds),
    )


def _differences(
    before: dict[_Key, int], now: dict[_Key, int], seconds: float
) -> dict[_Key, float | None]:
    return {
        key: (count - before[key]) / seconds if 0 <= before.get(key, -1) <= count else None
        for key, count in now.items()
    }


def _negatives(status: pb.GetServerStatusResponse) -> dict[str, int]:
    return {each.name: each.num_negatives for each in status.datasets}


def _requests(status: pb.GetServerStatusResponse) -> dict[str, int]:
    return {each.name: num_requests(each.rpcs) for each in status.datasets}


def _of_peers(status: pb.GetServerStatusResponse) -> dict[tuple[str, str], int]:
    return {(each.caller, each.address): each.num_negatives for each in status.peers}


def num_requests(rpcs: Iterable[pb.RpcStatus]) -> int:
    """Sum up the requests of some RPCs."""
    return sum(each.num_requests for each in rpcs)
