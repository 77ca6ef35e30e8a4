"""How much a server does a second, and how long a message takes, from two of its statuses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from negserve.v1 import admin_pb2 as pb

_Key = TypeVar("_Key")
#: Messages, seconds in the queue, seconds that they were made.
_Times = tuple[int, float, float]


class MessageMeans(NamedTuple):
    """Mean times of a message of negatives.

    :ivar queue_ms: milliseconds that it waits for a thread
    :ivar make_ms: milliseconds that it is drawn and encoded
    """

    queue_ms: float
    make_ms: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What happens a second, and what a message takes; None where that is not known.

    That is so where a count is new, or has fallen as one of an ended process.

    :ivar negatives: of all datasets together; None if nothing is known
    :ivar negatives_of: by dataset
    :ivar requests_of: by dataset, of all RPCs
    :ivar negatives_for: by caller and address of the peer
    :ivar means_of: by dataset; None also where there was no message
    :ivar means_for: by caller and address of the peer, likewise
    """

    negatives: float | None = None
    negatives_of: dict[str, float | None] = field(default_factory=dict)
    requests_of: dict[str, float | None] = field(default_factory=dict)
    negatives_for: dict[tuple[str, str], float | None] = field(default_factory=dict)
    means_of: dict[str, MessageMeans | None] = field(default_factory=dict)
    means_for: dict[tuple[str, str], MessageMeans | None] = field(default_factory=dict)


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
        _means(_times(before), _times(now)),
        _means(_times_of_peers(before), _times_of_peers(now)),
    )


def means_since_start(status: pb.GetServerStatusResponse) -> Rates:
    """Compute the mean times of all messages since the start, without rates."""
    of, of_peers = _times(status), _times_of_peers(status)
    zero: _Times = (0, 0.0, 0.0)
    return Rates(
        means_of=_means(dict.fromkeys(of, zero), of),
        means_for=_means(dict.fromkeys(of_peers, zero), of_peers),
    )


def _means(before: dict[_Key, _Times], now: dict[_Key, _Times]) -> dict[_Key, MessageMeans | None]:
    return {key: _mean(before[key], times) if key in before else None for key, times in now.items()}


def _mean(before: _Times, now: _Times) -> MessageMeans | None:
    num_messages, queue, make = (after - first for after, first in zip(now, before, strict=True))
    if num_messages <= 0 or min(queue, make) < 0:
        return None
    return MessageMeans(1000 * queue / num_messages, 1000 * make / num_messages)


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


def _times(status: pb.GetServerStatusResponse) -> dict[str, _Times]:
    return {
        each.name: (each.num_messages, each.queue_seconds, each.make_seconds)
        for each in status.datasets
    }


def _times_of_peers(status: pb.GetServerStatusResponse) -> dict[tuple[str, str], _Times]:
    return {
        (each.caller, each.address): (each.num_messages, each.queue_seconds, each.make_seconds)
        for each in status.peers
    }


def num_requests(rpcs: Iterable[pb.RpcStatus]) -> int:
    """Sum up the requests of some RPCs."""
    return sum(each.num_requests for each in rpcs)
