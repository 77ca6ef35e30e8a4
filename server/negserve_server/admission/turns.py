"""Turns: which stream's work is done next, by the engine's threads and on the event loop."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")
_T = TypeVar("_T")

#: What a turn is taken to last until it is known: about as long as a slice.
_EXPECTED_SECONDS = 0.0003
#: A round of the event loop begins no further calls after so much time of them.
_ROUND_SECONDS = 0.0003
#: Threads for work that can't be cut: most of them wait for each other's indexes.
_THREADS_ASIDE = 8
#: Work of a request, in negatives, up to which it is of one size, or of the next one.
_SIZES = (1 << 12, 1 << 14, 1 << 16, 1 << 18)
#: A client that asks so late after its answers does something else meanwhile: it trains.
_PAUSE_SECONDS = 0.004
#: What the last pause counts in the mean of them: one pause may have been the network's.
_LAST_PAUSE = 0.25
#: Requests above this size are one group, whether their clients pause or not: such an answer
#: takes a while to arrive.
_LARGE = _SIZES[-2]


class Account:
    """What one stream has had of the server's time."""

    __slots__ = ("_pause", "tags")

    def __init__(self) -> None:
        self.tags: dict[object, float] = {}
        self._pause = 0.0

    def note_pause(self, seconds: float) -> None:
        """Say how long after the last answer the request came."""
        self._pause += _LAST_PAUSE * (min(seconds, 2 * _PAUSE_SECONDS) - self._pause)

    def group(self, work: int) -> int:
        """Say with which others a request has to share.

        :param work: of the whole request, as a number of negatives
        """
        has_paused = self._pause >= _PAUSE_SECONDS and work <= _LARGE
        return 2 * sum(work > size for size in _SIZES) + has_paused


class _Group(Generic[_Item]):
    """Items that wait, in the order of their accounts' tags."""

    __slots__ = ("heap", "now", "tag")

    def __init__(self) -> None:
        self.tag = 0.0
        self.now = 0.0
        self.heap: list[tuple[float, int, Account, _Item]] = []


class FairQueue(Generic[_Item]):
    """Gives items in an order that is fair to groups, and within a group to accounts.

    Start-time fair queueing, twice. Each group, and each account in it, has a tag: the time that it
    has had. The lowest goes first. Who had nothing to do meanwhile starts where the others are: it
    goes before those that were served since, and has saved nothing up.

    The groups are requests of about one size, and, but for large ones, of clients that pause
    between them or do not. So a small request does not wait for a queue of large ones, however
    many streams send them, nor a trainer for those that only draw; and none can take more than its
    group's share from the others.
    """

    def __init__(self) -> None:
        self._groups: tuple[_Group[_Item], ...] = tuple(
            _Group() for _ in range(2 * (len(_SIZES) + 1))
        )
        self._now = 0.0
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        """Count the items that wait."""
        return self._length

    def put(self, account: Account, number: int, item: _Item, *, is_begun: bool = False) -> None:
        """Let an item wait for its turn.

        :param number: of its group
        :param is_begun: whether it had a turn before: then it is the next of its group. Were all
            large requests cut and mixed, they would all be done at the same moment, and the engine
            idle while their clients take the answers
        """
        group = self._groups[number]
        if not group.heap:
            group.tag = max(group.tag, self._now)
        tag = -1.0 if is_begun else max(account.tags.get(group, 0.0), group.now)
        if not is_begun:
            account.tags[group] = tag
        heapq.heappush(group.heap, (tag, next(self._numbers), account, item))
        self._length += 1

    def pass_by(self, account: Account, number: int) -> None:
        """Put and take an item while none waits."""
        group = self._groups[number]
        self._now = group.tag = max(group.tag, self._now)
        group.now = account.tags[group] = max(account.tags.get(group, 0.0), group.now)
        self._add(group, account, _EXPECTED_SECONDS)

    def take(self) -> tuple[Account, _Item]:
        """Give the item whose turn it is.

        :raises ValueError: if none waits
        """
        group = min((group for group in self._groups if group.heap), key=lambda each: each.tag)
        self._now = group.tag
        tag, number, account, item = heapq.heappop(group.heap)
        # Several items of one account wait with the tag that it had then.
        while tag >= 0 and group.heap and account.tags[group] > max(tag, group.heap[0][0]):
            entry = (account.tags[group], number, account, item)
            tag, number, account, item = heapq.heappushpop(group.heap, entry)
        group.now = max(tag, group.now)
        self._length -= 1
        self._add(group, account, _EXPECTED_SECONDS)
        return account, item

    def charge(self, account: Account, number: int, seconds: float) -> None:
        """Note how long the turn of an item took.

        :param number: of its group
        """
        self._add(self._groups[number], account, seconds - _EXPECTED_SECONDS)

    def _add(self, group: _Group[_Item], account: Account, seconds: float) -> None:
        group.tag += seconds
        account.tags[group] = account.tags.get(group, group.now) + seconds


class _Job:
    """Work in steps, and who waits for its result."""

    __slots__ = ("_future", "_loop", "_steps", "account", "group")

    def __init__(
        self, account: Account, work: int, steps: Generator[None, None, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.account = account
        self.group = account.group(work)
        self._steps = steps
        self._loop = loop
        self._future: asyncio.Future[Any] = loop.create_future()

    @property
    def future(self) -> asyncio.Future[Any]:
        """What has the result."""
        return self._future

    def step(self) -> bool:
        """Do a step; tell whether there are more."""
        if self._future.cancelled():
            self._steps.close()
            return False
        try:
            next(self._steps)
        except StopIteration as end:
            self._tell(self._future.set_result, end.value)
            return False
        except Exception as error:
            self._tell(self._future.set_exception, error)
            return False
        return True

    def _tell(self, tell: Callable[[Any], None], what: object) -> None:
        def told() -> None:
            if not self._future.done():
                tell(what)

        try:
            self._loop.call_soon_threadsafe(told)
        except RuntimeError:  # the loop is closed: nobody waits
            return


class Turns:
    """Gives streams turns: in threads for the engine, which releases the GIL, and on the loop.

    Work is cut into steps of some milliseconds, so that who comes next need not wait
    for a large request to be done.

    :param num_threads: how many threads there are for the engine
    """

    def __init__(self, num_threads: int) -> None:
        self._lock = threading.Lock()
        self._queue: FairQueue[_Job] = FairQueue()
        #: As many tokens as items wait, and one for each thread at the end: a queue in C wakes
        #: threads several times as fast as a condition.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._is_closed = False
        self._here: FairQueue[tuple[int, asyncio.Future[Any], Callable[[], Any]]] = FairQueue()
        self._round_seconds = 0.0
        self._is_round_due = False
        self._aside = ThreadPoolExecutor(_THREADS_ASIDE, thread_name_prefix="aside")
        self._threads = [
            threading.Thread(target=self._serve, name=f"engine_{i}", daemon=True)
            for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    async def steps(self, account: Account, work: int, steps: Generator[None, None, _T]) -> _T:
        """Do work in a thread of the engine, each step in its turn.

        :param work: of all steps together, as a number of negatives
        :param steps: what it yields does not matter; given up if the caller is cancelled
        """
        return await self.begin(account, work, steps)

    def begin(
        self, account: Account, work: int, steps: Generator[None, None, _T]
    ) -> asyncio.Future[_T]:
        """Begin what :meth:`steps` does, without waiting."""
        job = _Job(account, work, steps, asyncio.get_running_loop())
        with self._lock:
            self._queue.put(account, job.group, job)
        self._tokens.put(None)
        return job.future

    async def call(
        self, account: Account, work: int, function: Callable[..., _T], *arguments: object
    ) -> _T:
        """Call a function in a thread of the engine, when it is its turn."""
        return await self.begin(account, work, _one_step(function, arguments))

    async def call_aside(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that may take seconds and can't be cut: in a thread of its own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._aside, function, *arguments)

    async def call_here(
        self, account: Account, work: int, function: Callable[..., _T], *arguments: object
    ) -> _T:
        """Call a function on the event loop: what takes less time than a hop to a thread.

        A few calls in each round of the loop, so that requests that arrive meanwhile are seen
        before the next ones, and these are of those whose turn it is.
        """
        group = account.group(work)
        if not len(self._here) and self._round_seconds < _ROUND_SECONDS:
            if not self._is_round_due:
                self._is_round_due = True
                asyncio.get_running_loop().call_soon(self._begin_round)
            self._here.pass_by(account, group)
            begin = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self._note_call(account, group, time.perf_counter() - begin)
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._here.put(account, group, (group, future, lambda: function(*arguments)))
        return await future

    def _begin_round(self) -> None:
        self._round_seconds = 0.0
        while len(self._here) and self._round_seconds < _ROUND_SECONDS:
            account, (group, future, function) = self._here.take()
            begin = time.perf_counter()
            if not future.cancelled():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)
            self._note_call(account, group, time.perf_counter() - begin)
        self._is_round_due = self._round_seconds > 0.0
        if self._is_round_due:
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _note_call(self, account: Account, group: int, seconds: float) -> None:
        self._round_seconds += seconds
        self._here.charge(account, group, seconds)

    def _serve(self) -> None:
        while True:
            self._tokens.get()
            with self._lock:
                if self._is_closed:
                    return
                account, job = self._queue.take()
            begin = time.thread_time()
            has_more = job.step()
            seconds = time.thread_time() - begin
            with self._lock:
                self._queue.charge(account, job.group, seconds)
                if has_more:
                    self._queue.put(account, job.group, job, is_begun=True)
            if has_more:
                self._tokens.put(None)
            del account, job  # whose result may be large

    def close(self) -> None:
        """End the threads after the steps that they are at."""
        with self._lock:
            self._is_closed = True
            self._queue = FairQueue()
        for _ in self._threads:
            self._tokens.put(None)
        for thread in self._threads:
            thread.join()
        self._aside.shutdown(cancel_futures=True)


def _one_step(
    function: Callable[..., _T], arguments: tuple[object, ...]
) -> Generator[None, None, _T]:
    return function(*arguments)
    yield
