"""What one message of negatives took, and what it has."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MessageRecord:
    """The record of what a message takes; it begins with the wait for a thread.

    A message waits, is drawn, perhaps in several steps with waits between them, and is encoded.
    All that happens in one thread at a time, which need not be that of the event loop.

    :ivar queue: seconds that the message waited for a thread
    :ivar draw: seconds that its negatives took
    :ivar encode: seconds that its bytes took
    :ivar since: when it was made, or began to wait; of :func:`time.perf_counter`
    """

    __slots__ = ("draw", "encode", "queue", "since")

    def __init__(self) -> None:
        self.queue = self.draw = self.encode = 0.0
        self.since = perf_counter()

    @property
    def make(self) -> float:
        """Seconds that its negatives and its bytes took."""
        return self.draw + self.encode

    def begun(self) -> None:
        """Note that a wait for a thread has ended."""
        now = perf_counter()
        self.queue += now - self.since
        self.since = now

    def drawn(self) -> None:
        """Note that negatives were drawn, in a step that may be followed by others."""
        now = perf_counter()
        self.draw += now - self.since
        self.since = now

    def encoded(
        self,
        num_positives: int,  # noqa: ARG002
        num_saturated: int,  # noqa: ARG002
        mask: NDArray[np.bool_] | None,  # noqa: ARG002
    ) -> None:
        """Note that the message is made.

        :param num_positives: how many it answers
        :param num_saturated: how many of these have fewer legal values than needed
        :param mask: of the negatives, True where valid, shape (num_positives, k); None where all or
            none of a positive are valid
        """
        now = perf_counter()
        self.encode = now - self.since
        self.since = now


class CountedRecord(MessageRecord):
    """A record that also has what the message has.

    :param k: negatives of a positive
    :param is_masked: whether saturated positives have a mask
    :ivar num_positives: how many it answers
    :ivar num_saturated: how many of these have fewer legal values than needed
    :ivar num_masked: its negatives that are not valid
    """

    __slots__ = ("_is_masked", "_k", "num_masked", "num_positives", "num_saturated")

    def __init__(self, k: int, is_masked: bool) -> None:
        super().__init__()
        self._k = k
        self._is_masked = is_masked
        self.num_positives = self.num_saturated = self.num_masked = 0

    def encoded(self, num_positives: int, num_saturated: int, mask: NDArray[Any] | None) -> None:
        """Note that the message is made."""
        super().encoded(num_positives, num_saturated, mask)
        self.num_positives, self.num_saturated = num_positives, num_saturated
        if not self._is_masked:
            return
        if mask is None or not mask.strides[-1]:  # one flag for all negatives of a positive
            self.num_masked = num_saturated * self._k
        else:
            self.num_masked = mask.size - int(np.count_nonzero(mask))
