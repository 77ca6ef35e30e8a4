"""Start-time fair queueing: which stream's work is done next."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Generic, NamedTuple, TypeVar

_Item = TypeVar("_Item")

#: Assumed duration of an item until it is known: about that of a step.
_EXPECTED_SECONDS = 0.0003
#: Bounds of the size classes of requests, in negatives.
_SIZES = (1 << 12, 1 << 14, 1 << 16, 1 << 18)
#: A client that pauses so many times as long as its request would wait among those of clients that
#: pause, is one of them.
_PAUSES_TO_WAITS = 4
#: Among those, a request goes before all that came this many of its client's pauses earlier.
_PAUSES_TO_HEAD_START = 8
#: One pause counts so much at most, and has this weight in the moving mean: it may be due to the
#: network, or to a busy machine.
_LONGEST_PAUSE_SECONDS = 0.02
_LAST_PAUSE = 0.125
#: Weight of the last work in the moving mean of paces.
_LAST_PACE = 0.25
#: Weight of the last item in the moving mean of waits.
_LAST_WAIT = 0.0625
#: Weight of the last item in the moving mean of durations.
_LAST_DURATION = 0.0625
#: Items whose durations are within this factor of their group's mean count as equal.
_ALIKE = 2.0
#: Requests above this size are one group, whether their clients pause or not: such an answer
#: takes a while to arrive.
_LARGE = _SIZES[-2]


class Flow:
    """What one stream has received of the server's time.

    :ivar tags: start tag by group: the time received there, in seconds
    :ivar pause: moving mean of the time between an answer and the next request, in seconds
    :ivar pace: moving mean of the processor time of a unit of work, in seconds; infinite before
        the first work is done
    """

    __slots__ = ("pace", "pause", "tags")

    def __init__(self) -> None:
        self.tags: dict[object, float] = {}
        self.pause = 0.0
        self.pace = inf

    def record_pause(self, seconds: float) -> None:
        """Record the time between the last answer and this request."""
        self.pause += _LAST_PAUSE * (min(seconds, _LONGEST_PAUSE_SECONDS) - self.pause)

    def record_work(self, work: int, seconds: float) -> None:
        """Record how much processor time work took."""
        pace = seconds / max(work, 1)
        self.pace = pace if self.pace == inf else self.pace + _LAST_PACE * (pace - self.pace)


class _Waiting(NamedTuple, Generic[_Item]):
    """An item that waits; they are in the order of their keys.

    :ivar key: the flow's start tag, or among those that pause, when it was added less a head start
    :ivar since: when it was added, in seconds
    :ivar place: how many it waits for, itself included
    """

    key: float
    number: int
    flow: Flow
    item: _Item
    since: float
    place: int


class _Group(Generic[_Item]):
    """Waiting items, as a heap.

    :ivar pauses: whether the clients pause between their requests
    :ivar tag: its start tag
    :ivar now: start tag of the flow that was served last
    :ivar pace: moving mean of how long items wait for one place, in seconds, if the clients pause
    :ivar duration: moving mean of how long items take, in seconds
    """

    __slots__ = ("duration", "heap", "now", "pace", "pauses", "tag")

    def __init__(self, *, pauses: bool) -> None:
        self.pauses = pauses
        self.tag = 0.0
        self.now = 0.0
        self.pace = 0.0
        self.duration = _EXPECTED_SECONDS
        self.heap: list[_Waiting[_Item]] = []

    def count_before(self, key: float) -> int:
        """Count the items that are served before one with this key."""
        return sum(entry.key <= key for entry in self.heap)


class FairQueue(Generic[_Item]):
    """A queue that is fair to groups, and within a group to flows.

    Start-time fair queueing, twice. Each group, and each flow in it, has a start tag: the time that
    it has received. The lowest tag is served first. A group or flow that had nothing to do starts
    again at the current virtual time: it is served before those that were served meanwhile, and
    has no credit from its idle time.

    Items of a group that take about the same time are charged the same: what one takes depends
    on caches and on what else the machine does, and streams with equal requests would get unequally
    many turns.

    The groups are requests of similar size and, except for large ones, of clients that pause
    between requests or do not. So a small request does not wait for a queue of large ones, however
    many streams send them, nor a trainer for clients that only draw; and no group can take more
    than its part of the time from the others.

    How long is a pause? Clients that only draw seem to pause, too, on a busy machine. So those
    count as pausing whose pauses are long compared with the wait among these. There, the longer a
    client pauses, the more requests of others it passes. Each waits for a bounded time: the order
    is that of time, less a head start in proportion to the pause.

    :param clock: gives the time in seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._groups: tuple[_Group[_Item], ...] = tuple(
            _Group(pauses=bool(number % 2)) for number in range(2 * (len(_SIZES) + 1))
        )
        self._now = 0.0
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        """Count the waiting items."""
        return self._length

    def choose_group(self, flow: Flow, work: int) -> int:
        """Give the group whose requests a request shares time with.

        :param work: of the whole request, as a number of negatives
        """
        number = 2 * sum(work > size for size in _SIZES)
        if work > _LARGE:
            return number
        group = self._groups[number + 1]
        wait = group.pace * group.count_before(self._key(group, flow))
        return number + (flow.pause > _PAUSES_TO_WAITS * wait)

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
        key = self._key(group, flow)
        if not group.pauses and not is_begun:
            flow.tags[group] = key
        place = 1 + (group.count_before(key) if group.pauses else 0)
        key = -inf if is_begun else key
        entry = _Waiting(key, next(self._numbers), flow, item, self._clock(), place)
        heapq.heappush(group.heap, entry)
        self._length += 1

    def is_next(self, flow: Flow, number: int) -> bool:
        """Whether an item, were it added, would be taken before all that wait."""
        group = self._groups[number]
        if group.heap:
            if group.heap[0].key <= self._key(group, flow):
                return False
            tag = group.tag
        else:
            tag = max(group.tag, self._now)
        return all(tag <= other.tag for other in self._groups if other.heap)

    def serve_now(self, flow: Flow, number: int) -> None:
        """Account for an item that is served at once, because it is the next."""
        group = self._groups[number]
        self._now = group.tag = max(group.tag, self._now)
        if not group.pauses:
            group.now = flow.tags[group] = self._key(group, flow)
        self._add(group, flow, _EXPECTED_SECONDS)

    def take(self) -> tuple[Flow, _Item]:
        """Remove and return the next item.

        :raises ValueError: if none waits
        """
        group = min((group for group in self._groups if group.heap), key=lambda each: each.tag)
        self._now = group.tag
        entry = heapq.heappop(group.heap)
        flow = entry.flow
        # Several items of one flow wait with the tag that it had when they were added.
        while (
            not group.pauses
            and entry.key >= 0
            and group.heap
            and flow.tags[group] > max(entry.key, group.heap[0].key)
        ):
            later = entry._replace(key=flow.tags[group])
            entry = heapq.heappushpop(group.heap, later)
            flow = entry.flow
        if group.pauses:
            pace = (self._clock() - entry.since) / entry.place
            group.pace += _LAST_WAIT * (pace - group.pace)
        else:
            group.now = max(entry.key, group.now)
        self._length -= 1
        self._add(group, flow, _EXPECTED_SECONDS)
        return flow, entry.item

    def charge(self, flow: Flow, number: int, seconds: float) -> None:
        """Record how long an item took.

        :param number: of its group
        """
        group = self._groups[number]
        group.tag += seconds - _EXPECTED_SECONDS
        if group.pauses:
            return
        if group.duration < _ALIKE * seconds and seconds < _ALIKE * group.duration:
            usual = group.duration
        else:
            usual = seconds
        group.duration += _LAST_DURATION * (seconds - group.duration)
        flow.tags[group] = flow.tags.get(group, group.now) + usual - _EXPECTED_SECONDS

    def _key(self, group: _Group[_Item], flow: Flow) -> float:
        if group.pauses:
            return self._clock() - _PAUSES_TO_HEAD_START * flow.pause
        return max(flow.tags.get(group, 0.0), group.now)

    def _add(self, group: _Group[_Item], flow: Flow, seconds: float) -> None:
        group.tag += seconds
        if not group.pauses:
            flow.tags[group] = flow.tags.get(group, group.now) + seconds
