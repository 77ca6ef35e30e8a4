"""What a server holds now, and what it has done since its start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from negserve_server.access.message_times import NO_TIMES, MessageTimes, sum_of_times

#: By name of an RPC: calls that were begun, and requests that they have received.
RpcCounts = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatus:
    """What one dataset costs and does: all versions of its name together.

    :ivar name: of the dataset
    :ivar fingerprint: of the version that new streams get; empty if there is none
    :ivar versions: numbers of those in memory
    :ivar table_bytes: memory of its tables
    :ivar num_streams: open calls that use it
    :ivar num_waiting: those among them whose answer waits for room
    :ivar num_positives: positives answered
    :ivar num_negatives: negatives drawn for them
    :ivar times: how long the messages of these took
    :ivar rpcs: calls that use it
    """

    name: str
    fingerprint: str = ""
    versions: tuple[int, ...] = ()
    table_bytes: int = 0
    num_streams: int = 0
    num_waiting: int = 0
    num_positives: int = 0
    num_negatives: int = 0
    times: MessageTimes = NO_TIMES
    rpcs: RpcCounts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """Who uses the server.

    :ivar caller: name of the caller; empty if callers are not told apart
    :ivar address: without its port; empty if there is a caller
    :ivar datasets: open calls that use a dataset, by its name
    :ivar ahead_bytes: memory of answers that it has not taken
    :ivar num_negatives: negatives drawn for it
    :ivar times: how long the messages of these took
    :ivar oldest_stream_seconds: age of the oldest of these calls
    """

    caller: str = ""
    address: str = ""
    datasets: Mapping[str, int] = field(default_factory=dict)
    ahead_bytes: int = 0
    num_negatives: int = 0
    times: MessageTimes = NO_TIMES
    oldest_stream_seconds: float = 0.0

    @property
    def num_streams(self) -> int:
        """Count the open calls that use a dataset."""
        return sum(self.datasets.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What one process holds, or all of a server together.

    :ivar uptime_seconds: since the server was started
    :ivar is_drained: whether an operator has taken it out of service
    :ivar num_workers: processes that answer
    :ivar num_worker_restarts: those that have ended and were started again
    :ivar resident_bytes: memory in RAM; what processes share counts once
    :ivar ahead_bytes: memory of answers that clients have not taken
    :ivar max_ahead_bytes: its limit
    :ivar max_table_bytes: limit of the memory of tables
    :ivar num_calls: open calls
    :ivar num_queued: requests that wait for a thread
    :ivar datasets: by name
    :ivar peers: by caller and address
    :ivar rpcs: all calls
    """

    uptime_seconds: float
    is_drained: bool
    num_workers: int
    num_worker_restarts: int
    resident_bytes: int
    ahead_bytes: int
    max_ahead_bytes: int
    max_table_bytes: int
    num_calls: int
    num_queued: int
    datasets: tuple[DatasetStatus, ...]
    peers: tuple[PeerStatus, ...]
    rpcs: RpcCounts

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Make it of the fields that :func:`dataclasses.asdict` gives, also after JSON."""
        datasets = (DatasetStatus(**_with_times(each)) for each in fields["datasets"])
        peers = (PeerStatus(**_with_times(each)) for each in fields["peers"])
        return cls(**{**fields, "datasets": tuple(datasets), "peers": tuple(peers)})


def _with_times(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Make the times a named tuple again, which JSON has as a list."""
    return {**fields, "times": MessageTimes(*fields["times"])}


def merge_statuses(statuses: Iterable[ServerStatus]) -> ServerStatus:
    """Add the statuses of several processes of one server up."""
    every = list(statuses)
    return ServerStatus(
        uptime_seconds=max(each.uptime_seconds for each in every),
        is_drained=any(each.is_drained for each in every),
        num_workers=sum(each.num_workers for each in every),
        num_worker_restarts=sum(each.num_worker_restarts for each in every),
        resident_bytes=sum(each.resident_bytes for each in every),
        ahead_bytes=sum(each.ahead_bytes for each in every),
        max_ahead_bytes=sum(each.max_ahead_bytes for each in every),
        max_table_bytes=sum(each.max_table_bytes for each in every),
        num_calls=sum(each.num_calls for each in every),
        num_queued=sum(each.num_queued for each in every),
        datasets=tuple(_merge_datasets(each.datasets for each in every)),
        peers=tuple(merge_peers(peer for each in every for peer in each.peers)),
        rpcs=_add_rpcs(each.rpcs for each in every),
    )


def _merge_datasets(lists: Iterable[Iterable[DatasetStatus]]) -> Iterable[DatasetStatus]:
    by_name: dict[str, list[DatasetStatus]] = {}
    for each in (dataset for some in lists for dataset in some):
        by_name.setdefault(each.name, []).append(each)
    for name, some in by_name.items():
        yield DatasetStatus(
            name=name,
            fingerprint=max((each.fingerprint for each in some), default=""),
            versions=tuple(sorted({serial for each in some for serial in each.versions})),
            table_bytes=sum(each.table_bytes for each in some),
            num_streams=sum(each.num_streams for each in some),
            num_waiting=sum(each.num_waiting for each in some),
            num_positives=sum(each.num_positives for each in some),
            num_negatives=sum(each.num_negatives for each in some),
            times=sum_of_times(each.times for each in some),
            rpcs=_add_rpcs(each.rpcs for each in some),
        )


def merge_peers(peers: Iterable[PeerStatus]) -> Iterable[PeerStatus]:
    """Make one of each peer that several processes know."""
    by_name: dict[tuple[str, str], list[PeerStatus]] = {}
    for each in peers:
        by_name.setdefault((each.caller, each.address), []).append(each)
    return [sum_of_peers(some, caller, address) for (caller, address), some in by_name.items()]


def sum_of_peers(peers: Iterable[PeerStatus], caller: str = "", address: str = "") -> PeerStatus:
    """Make one peer of several."""
    datasets: Counter[str] = Counter()
    every = list(peers)
    for each in every:
        datasets.update(each.datasets)
    return PeerStatus(
        caller=caller,
        address=address,
        datasets=dict(datasets),
        ahead_bytes=sum(each.ahead_bytes for each in every),
        num_negatives=sum(each.num_negatives for each in every),
        times=sum_of_times(each.times for each in every),
        oldest_stream_seconds=max((each.oldest_stream_seconds for each in every), default=0.0),
    )


def _add_rpcs(every: Iterable[RpcCounts]) -> RpcCounts:
    total: dict[str, tuple[int, int]] = {}
    for rpcs in every:
        for rpc, (num_calls, num_requests) in rpcs.items():
            calls, requests = total.get(rpc, (0, 0))
            total[rpc] = calls + num_calls, requests + num_requests
    return total
