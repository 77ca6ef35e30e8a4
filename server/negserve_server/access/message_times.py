"""How long messages of negatives took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class MeanTimes(NamedTuple):
    """Means of messages.

    :ivar queue_seconds: that one waited for a thread
    :ivar make_seconds: that drawing and encoding it took
    """

    queue_seconds: float
    make_seconds: float


class MessageTimes(NamedTuple):
    """Sums over messages.

    :ivar num_messages: how many were made
    :ivar queue_seconds: that they waited for a thread, all together
    :ivar make_seconds: that drawing and encoding them took, all together
    """

    num_messages: int = 0
    queue_seconds: float = 0.0
    make_seconds: float = 0.0

    def means_since(self, before: MessageTimes) -> MeanTimes | None:
        """Give the means of the messages since earlier sums.

        :return: None if there was no message, or if sums are less, as those of an ended process
        """
        count, queue, make = (now - then for now, then in zip(self, before, strict=True))
        if count <= 0 or min(queue, make) < 0:
            return None
        return MeanTimes(queue / count, make / count)


#: Of no message.
NO_TIMES = MessageTimes()


def sum_of_times(times: Iterable[MessageTimes]) -> MessageTimes:
    """Add sums up."""
    num_messages, queue_seconds, make_seconds = 0, 0.0, 0.0
    for each in times:
        num_messages += each.num_messages
        queue_seconds += each.queue_seconds
        make_seconds += each.make_seconds
    return MessageTimes(num_messages, queue_seconds, make_seconds)
