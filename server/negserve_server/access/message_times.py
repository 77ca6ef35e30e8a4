"""How long messages of negatives took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class MessageTimes(NamedTuple):
    """Sums over messages.

    :ivar num_messages: how many were made
    :ivar queue_seconds: that they waited for a thread, all together
    :ivar make_seconds: that drawing and encoding them took, all together
    """

    num_messages: int = 0
    queue_seconds: float = 0.0
    make_seconds: float = 0.0


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
