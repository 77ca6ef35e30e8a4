"""What is counted and timed of the negatives of one stream."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

from negserve_server.metrics.message_record import CountedRecord, MessageRecord
from negserve_server.metrics.pending import Pending, Tally, Times


class DrawMeter:
    """The meter of negatives that nobody asks for: it counts nothing."""

    def begin(self) -> MessageRecord:
        """Begin the record of a message, which waits for a thread from now on."""
        return MessageRecord()

    def made(self, record: MessageRecord) -> None:
        """Count what a message has, before it is sent."""

    def sent(self, record: MessageRecord) -> None:
        """Note that the client, or gRPC, has taken a message that was counted."""


#: Of all streams of a server that nobody scrapes.
NO_DRAWS = DrawMeter()


class DrawTallies(NamedTuple):
    """The numbers that negatives of one dataset and kind add to."""

    positives: Tally
    negatives: Tally
    saturated: Tally
    masked: Tally


class StageTimes(NamedTuple):
    """The durations of all messages, by stage; the names are the values of the label."""

    queue: Times
    draw: Times
    encode: Times
    send: Times


class CountingDrawMeter(DrawMeter):
    """Counts and times the negatives of one stream, on the thread of the event loop.

    :param k: negatives of a positive
    :param is_masked: whether saturated positives have a mask
    """

    def __init__(
        self, pending: Pending, tallies: DrawTallies, times: StageTimes, k: int, is_masked: bool
    ) -> None:
        self._pending = pending
        self._tallies = tallies
        self._times = times
        self._k = k
        self._is_masked = is_masked

    def begin(self) -> MessageRecord:
        """Begin the record of a message, which waits for a thread from now on."""
        return CountedRecord(self._k, self._is_masked)

    def made(self, record: MessageRecord) -> None:
        """Count what a message has, before it is sent."""
        assert isinstance(record, CountedRecord)
        positives, negatives, saturated, masked = self._tallies
        positives.amount += record.num_positives
        negatives.amount += record.num_positives * self._k
        saturated.amount += record.num_saturated
        masked.amount += record.num_masked
        times = self._times
        times.queue.note(record.queue)
        times.draw.note(record.draw)
        times.encode.note(record.encode)
        record.since = perf_counter()
        if not self._pending.is_due:
            self._pending.schedule()

    def sent(self, record: MessageRecord) -> None:
        """Note that the client, or gRPC, has taken a message that was counted."""
        assert isinstance(record, CountedRecord)
        self._times.send.note(perf_counter() - record.since)
        if not self._pending.is_due:
            self._pending.schedule()
