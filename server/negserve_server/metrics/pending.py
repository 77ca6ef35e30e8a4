"""Plain numbers of the event loop, which are added to their metrics some times a second.

To add to a metric takes a microsecond or two, and an answer of 128 positives a few hundred: to add
each of its numbers at once would cost some percent of the throughput.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

#: After so long a number is in its metric. A worker that is killed loses what is not.
FLUSH_SECONDS = 0.1


class Part(Protocol):
    """A number, or several, that wait to be added."""

    def flush(self) -> None:
        """Add what has come since the last time."""


_Part = TypeVar("_Part", bound=Part)


class Pending:
    """The numbers of one process that wait. Only for the thread of the event loop.

    :ivar is_due: whether they are about to be flushed
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self.is_due = False

    def add(self, part: _Part) -> _Part:
        """Flush a part from now on, too."""
        self._parts.append(part)
        return part

    def schedule(self) -> None:
        """Flush soon, as there is something new; only where it is not due already."""
        self.is_due = True
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Add all that waits to the metrics."""
        self.is_due = False
        for part in self._parts:
            part.flush()


class Tally:
    """A number that waits.

    :param add: adds to the metric
    :ivar amount: what has come since the last time
    """

    __slots__ = ("_add", "amount")

    def __init__(self, add: Callable[[float], None]) -> None:
        self._add = add
        self.amount = 0

    def flush(self) -> None:
        """Add the number, if there is any."""
        if self.amount:
            self._add(self.amount)
            self.amount = 0


class Times:
    """Durations that wait, by bucket of their histogram.

    :param bounds: upper bounds of the buckets, in seconds, without the infinite one
    :param add: adds to the histogram: how many by bucket, and the sum of seconds
    """

    __slots__ = ("_add", "_bounds", "_counts", "_is_changed", "_sum")

    def __init__(
        self, bounds: Sequence[float], add: Callable[[Sequence[int], float], None]
    ) -> None:
        self._bounds = tuple(bounds)
        self._add = add
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._is_changed = False

    def note(self, seconds: float) -> None:
        """Note a duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds
        self._is_changed = True

    def flush(self) -> None:
        """Add the durations, if there are any."""
        if self._is_changed:
            self._add(self._counts, self._sum)
            self._counts = [0] * len(self._counts)
            self._sum = 0.0
            self._is_changed = False
