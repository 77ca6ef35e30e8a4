"""What calls use and have used, by RPC, dataset and peer: plain numbers of the event loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVar
from urllib.parse import unquote

from negserve_server.access.message_times import NO_TIMES, MessageTimes, sum_of_times

#: Peers and names of datasets whose past is kept; clients may bring ever others.
_MOST_KEPT = 1000
#: How long the past of a peer is kept that has no open call.
KEEP_PEER_SECONDS = 60.0

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class HeldAnswers(Protocol):
    """The answers of one stream that its client has not taken yet."""

    @property
    def held_bytes(self) -> int:
        """Their memory."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether the next one waits for room."""
        ...


class CallUse:
    """What one call uses.

    :param rpc: name of the RPC
    :param caller: name of the caller; empty if callers are not told apart
    :param connection: gRPC's name of the connection, such as ``ipv4:10.0.0.7:41000``
    :ivar dataset: that it uses; empty before it is known, and for calls without one
    :ivar begun_at: of the monotonic clock
    :ivar num_requests: messages received
    :ivar num_positives: positives answered
    :ivar num_negatives: negatives drawn for them
    :ivar num_messages: messages made of them
    :ivar queue_seconds: that these waited for a thread
    :ivar make_seconds: that drawing and encoding these took
    :ivar answers: those that its client has not taken; None if it has no share of that memory
    """

    __slots__ = (
        "answers", "begun_at", "caller", "connection", "dataset", "make_seconds", "num_messages",
        "num_negatives", "num_positives", "num_requests", "queue_seconds", "rpc",
    )  # fmt: skip

    def __init__(self, rpc: str = "", caller: str = "", connection: str = "") -> None:
        self.rpc = rpc
        self.caller = caller
        self.connection = connection
        self.dataset = ""
        self.begun_at = time.monotonic()
        self.num_requests = 0
        self.num_positives = 0
        self.num_negatives = 0
        self.num_messages = 0
        self.queue_seconds = self.make_seconds = 0.0
        self.answers: HeldAnswers | None = None

    def drew(self, num_positives: int, k: int, queue_seconds: float, make_seconds: float) -> None:
        """Count a message of negatives.

        :param k: negatives of a positive
        :param queue_seconds: that it waited for a thread
        :param make_seconds: that drawing and encoding it took
        """
        self.num_positives += num_positives
        self.num_negatives += num_positives * k
        self.num_messages += 1
        self.queue_seconds += queue_seconds
        self.make_seconds += make_seconds

    @property
    def times(self) -> MessageTimes:
        """How long its messages took."""
        return MessageTimes(self.num_messages, self.queue_seconds, self.make_seconds)

    @property
    def peer(self) -> tuple[str, str]:
        """The caller, or else the address without its port."""
        return (self.caller, "") if self.caller else ("", address_of(self.connection))


#: The use of the call that the current task answers.
USE: ContextVar[CallUse] = ContextVar("USE", default=CallUse())  # noqa: B039


class Counts:
    """What calls of one RPC, or on one dataset, have done.

    :ivar rpcs: by name of the RPC, numbers of calls and of requests
    :ivar num_positives: positives answered
    :ivar num_negatives: negatives drawn for them
    :ivar times: how long the messages of negatives took
    """

    __slots__ = ("num_negatives", "num_positives", "rpcs", "times")

    def __init__(self) -> None:
        self.rpcs: dict[str, tuple[int, int]] = {}
        self.num_positives = 0
        self.num_negatives = 0
        self.times = NO_TIMES

    def add(self, use: CallUse) -> None:
        """Add a call."""
        num_calls, num_requests = self.rpcs.get(use.rpc, (0, 0))
        self.rpcs[use.rpc] = num_calls + 1, num_requests + use.num_requests
        self.num_positives += use.num_positives
        self.num_negatives += use.num_negatives
        self.times = sum_of_times((self.times, use.times))

    def copy(self) -> Counts:
        """Make a copy, to which more may be added."""
        made = Counts()
        made.rpcs = dict(self.rpcs)
        made.num_positives, made.num_negatives = self.num_positives, self.num_negatives
        made.times = self.times
        return made


class Usage:
    """Counts calls: those that have ended in sums, and those that are open, by themselves."""

    def __init__(self) -> None:
        self._open: dict[CallUse, None] = {}
        self._total = Counts()
        self._of_datasets: dict[str, Counts] = {}
        #: Negatives of a peer's ended calls, what they took, and when the last call ended.
        self._of_peers: dict[tuple[str, str], tuple[int, MessageTimes, float]] = {}

    def begin(self, use: CallUse) -> None:
        """Count a call as open."""
        self._open[use] = None

    def end(self, use: CallUse) -> None:
        """Count a call as ended."""
        del self._open[use]
        self._total.add(use)
        if not use.dataset:
            return
        counts = self._of_datasets.pop(use.dataset, None) or Counts()
        counts.add(use)
        _keep(self._of_datasets, use.dataset, counts)
        if use.num_negatives:
            peer = use.peer
            num_negatives, times, _ = self._of_peers.pop(peer, (0, NO_TIMES, 0.0))
            num_negatives += use.num_negatives
            times = sum_of_times((times, use.times))
            _keep(self._of_peers, peer, (num_negatives, times, time.monotonic()))

    def __iter__(self) -> Iterator[CallUse]:
        """Iterate over the open calls."""
        return iter(self._open)

    def total(self) -> Counts:
        """Sum up all calls."""
        total = self._total.copy()
        for use in self._open:
            total.add(use)
        return total

    def of_datasets(self) -> dict[str, Counts]:
        """Sum up the calls of each dataset; those that were used long ago may be missing."""
        found = {name: counts.copy() for name, counts in self._of_datasets.items()}
        for use in self._open:
            if use.dataset:
                found.setdefault(use.dataset, Counts()).add(use)
        return found

    def of_peers(self) -> dict[tuple[str, str], tuple[int, MessageTimes]]:
        """Sum up the negatives of each peer that has ended a call a short while ago, and times.

        :return: without those of open calls
        """
        due = time.monotonic() - KEEP_PEER_SECONDS
        busy = {use.peer for use in self._open if use.dataset}
        for peer, (_, _, ended_at) in list(self._of_peers.items()):
            if ended_at < due and peer not in busy:
                del self._of_peers[peer]
        return {peer: (count, times) for peer, (count, times, _) in self._of_peers.items()}


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep a value as the newest one; the oldest goes if there are too many."""
    kept[key] = value
    if len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]


def address_of(connection: str) -> str:
    """Give the address of gRPC's name for a connection, without scheme and port."""
    scheme, separator, rest = connection.partition(":")
    if not separator or scheme not in {"ipv4", "ipv6"}:
        return scheme
    return unquote(rest).rpartition(":")[0].removeprefix("[").removesuffix("]")
