"""Start-time fair queueing: which stream's work is done next."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

#: Assumed duration of an item until it is known: about that of a step.
_EXPECTED_SECONDS = 0.0003
#: Bounds of the size classes of requests, in negatives.
_SIZES = (1 << 12, 1 << 14, 1 << 16, 1 << 18)
#: A client that sends its next request this long after an answer does something else meanwhile: it
#: trains.
_PAUSE_SECONDS = 0.004
#: Weight of the last pause in their moving mean: one pause may be due to the network.
_LAST_PAUSE = 0.25
#: Requests above this size are one group, whether their clients pause or not: such an answer
#: takes a while to arrive.
_LARGE = _SIZES[-2]


class Flow:
    """What one stream has received of the server's time.

    :ivar tags: start tag by group: the time received there, in seconds
    """

    __slots__ = ("_pause", "tags")

    def __init__(self) -> None:
        self.tags: dict[object, float] = {}
        self._pause = 0.0

    def record_pause(self, seconds: float) -> None:
        """Record the time between the last answer and this request."""
        self._pause += _LAST_PAUSE * (min(seconds, 2 * _PAUSE_SECONDS) - self._pause)

    def group(self, work: int) -> int:
        """Give the group whose requests a request shares time with.

        :param work: of the whole request, as a number of negatives
        """
        has_paused = self._pause >= _PAUSE_SECONDS and work <= _LARGE
        return 2 * sum(work > size for size in _SIZES) + has_paused


class _Group(Generic[_Item]):
    """Waiting items, as a heap by the start tags of their flows."""

    __slots__ = ("heap", "now", "tag")

    def __init__(self) -> None:
        self.tag = 0.0
        self.now = 0.0
        self.heap: list[tuple[float, int, Flow, _Item]] = []


class FairQueue(Generic[_Item]):
    """A queue that is fair to groups, and within a group to flows.

    Start-time fair queueing, twice. Each group, and each flow in it, has a start tag: the time that
    it has received. The lowest tag is served first. A group or flow that had nothing to do starts
    again at the current virtual time: it is served before those that were served meanwhile, and
    has no credit from its idle time.

    The groups are requests of similar size and, except for large ones, of clients that pause
    between requests or do not. So a small request does not wait for a queue of large ones, however
    many streams send them, nor a trainer for clients that only draw; and no group can take more
    than its part of the time from the others.
    """

    def __init__(self) -> None:
        self._groups: tuple[_Group[_Item], ...] = tuple(
            _Group() for _ in range(2 * (len(_SIZES) + 1))
        )
        self._now = 0.0
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        """Count the waiting items."""
        return self._length

    def put(self, flow: Flow, number: int, item: _Item, *, is_begun: bool = False) -> None:
        """Add an item.

        :param number: of its group
        :param is_begun: whether it was served before: then it is the next of its group. If all
            large requests were cut and mixed, they would all be done at the same moment, and the
            engine would idle while their clients receive the answers
        """
        group = self._groups[number]
        if not group.heap:
            group.tag = max(group.tag, self._now)
        tag = -1.0 if is_begun else max(flow.tags.get(group, 0.0), group.now)
        if not is_begun:
            flow.tags[group] = tag
        heapq.heappush(group.heap, (tag, next(self._numbers), flow, item))
        self._length += 1

    def serve_now(self, flow: Flow, number: int) -> None:
        """Account for an item that is served at once, because none waits."""
        group = self._groups[number]
        self._now = group.tag = max(group.tag, self._now)
        group.now = flow.tags[group] = max(flow.tags.get(group, 0.0), group.now)
        self._add(group, flow, _EXPECTED_SECONDS)

    def take(self) -> tuple[Flow, _Item]:
        """Remove and return the next item.

        :raises ValueError: if none waits
        """
        group = min((group for group in self._groups if group.heap), key=lambda each: each.tag)
        self._now = group.tag
        tag, number, flow, item = heapq.heappop(group.heap)
        # Several items of one flow wait with the tag that it had when they were added.
        while tag >= 0 and group.heap and flow.tags[group] > max(tag, group.heap[0][0]):
            entry = (flow.tags[group], number, flow, item)
            tag, number, flow, item = heapq.heappushpop(group.heap, entry)
        group.now = max(tag, group.now)
        self._length -= 1
        self._add(group, flow, _EXPECTED_SECONDS)
        return flow, item

    def charge(self, flow: Flow, number: int, seconds: float) -> None:
        """Record how long an item took.

        :param number: of its group
        """
        self._add(self._groups[number], flow, seconds - _EXPECTED_SECONDS)

    def _add(self, group: _Group[_Item], flow: Flow, seconds: float) -> None:
        group.tag += seconds
        flow.tags[group] = flow.tags.get(group, group.now) + seconds
