"""What a process holds at a moment, as its event loop sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class DatasetState(NamedTuple):
    """A version of a dataset.

    :ivar dataset: name
    :ivar fingerprint: of the graph
    :ivar serial: number of the version
    :ivar origin: where it comes from
    :ivar is_current: whether new streams get it
    """

    dataset: str
    fingerprint: str
    serial: int
    origin: str
    is_current: bool


class ServerState(NamedTuple):
    """What a process holds.

    :ivar num_calls: open calls
    :ivar num_waiting: streams whose answers wait for room in memory
    :ivar num_queued: messages that wait for a thread
    :ivar ahead_bytes: memory of answers that clients have not taken yet
    :ivar max_ahead_bytes: its limit
    :ivar table_bytes: memory of tables, by dataset
    :ivar max_table_bytes: its limit
    :ivar num_evictions: tables that went for others, since the start
    :ivar datasets: versions in memory
    """

    num_calls: int
    num_waiting: int
    num_queued: int
    ahead_bytes: int
    max_ahead_bytes: int
    table_bytes: Mapping[str, int]
    max_table_bytes: int
    num_evictions: int
    datasets: Sequence[DatasetState]
