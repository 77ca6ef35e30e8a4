"""The scheduler: runs the work of streams in threads and on the event loop, in a fair order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from negserve_server.admission.fair_queue import FairQueue, Flow

_T = TypeVar("_T")

#: After calls of so much time a round of the event loop begins no further ones.
_ROUND_SECONDS = 0.00015
#: Up to this many negatives (some 0.1 ms) a switch to a thread costs more than the work.
_SHORT_WORK = 10_000
#: Work of a stream that is alone blocks the event loop, which it alone waits for, so long at most.
_LONGEST_INLINE_SECONDS = 0.001
#: A stream is alone if no other one has had work for so long.
_ALONE_SECONDS = 0.05
#: Threads for work that can't be cut: most of them wait for each other's indexes.
_BLOCKING_THREADS = 8


class _Job:
    """Work in steps, with a future for its result."""

    __slots__ = ("_context", "_future", "_loop", "_steps", "flow", "group", "seconds", "work")

    def __init__(
        self,
        flow: Flow,
        work: int,
        steps: Generator[None, None, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.flow = flow
        self.work = work
        self.seconds = 0.0
        self.group = 0
        self._steps = steps
        self._context = copy_context()  # with the call, for what the work logs
        self._loop = loop
        self._future: asyncio.Future[Any] = loop.create_future()

    @property
    def future(self) -> asyncio.Future[Any]:
        """The result, once the work is done."""
        return self._future

    def step(self) -> bool:
        """Do a step, and return whether there are more."""
        if self._future.cancelled():
            self._steps.close()
            return False
        try:
            self._context.run(next, self._steps)
        except StopIteration as end:
            self._finish(self._future.set_result, end.value)
            return False
        except Exception as error:
            self._finish(self._future.set_exception, error)
            return False
        return True

    def _finish(self, finish: Callable[[Any], None], outcome: object) -> None:
        def finish_if_awaited() -> None:
            if not self._future.done():
                finish(outcome)

        try:
            self._loop.call_soon_threadsafe(finish_if_awaited)
        except RuntimeError:  # the loop is closed: nobody waits
            return


class _Inline(NamedTuple):
    """Work for the event loop; its context is None if it need not wait."""

    group: int
    work: int
    future: asyncio.Future[Any]
    steps: Generator[None, None, Any]
    context: Context | None


class Scheduler:
    """Runs the work of streams: in engine threads, which release the GIL, and on the event loop.

    Work is cut into steps of some milliseconds, so that the next stream need not wait for the
    whole of a large request.

    :param num_threads: number of engine threads
    """

    def __init__(self, num_threads: int) -> None:
        self._lock = threading.Lock()
        self._queue: FairQueue[_Job] = FairQueue()
        #: One wake-up for each waiting item, and one for each thread at the end: a queue in C wakes
        #: threads several times as fast as a condition.
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        self._is_closed = False
        self._inline: FairQueue[_Inline] = FairQueue()
        self._round_seconds = 0.0
        self._is_round_due = False
        self._latest: Flow | None = None
        self._shared_at = 0.0
        self._blocking = ThreadPoolExecutor(_BLOCKING_THREADS, thread_name_prefix="blocking")
        self._threads = [
            threading.Thread(target=self._serve, name=f"engine_{i}", daemon=True)
            for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run_steps(self, flow: Flow, work: int, steps: Generator[None, None, _T]) -> _T:
        """Run work in an engine thread, step by step.

        :param work: of all steps together, as a number of negatives
        :param steps: yields None between steps; closed if the caller is cancelled
        """
        return await self.submit(flow, work, steps)

    def submit(self, flow: Flow, work: int, steps: Generator[None, None, _T]) -> asyncio.Future[_T]:
        """Queue work as :meth:`run_steps` does, without waiting for its result."""
        self._note(flow)
        job = _Job(flow, work, steps, asyncio.get_running_loop())
        with self._lock:
            job.group = self._queue.choose_group(flow, work)
            self._queue.put(flow, job.group, job)
        self._wake_ups.put(None)
        return job.future

    async def run(
        self, flow: Flow, work: int, function: Callable[..., _T], *arguments: object
    ) -> _T:
        """Call a function in an engine thread."""
        return await self.submit(flow, work, _one_step(function, arguments))

    async def run_blocking(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that may take seconds and can't be cut, in a separate pool."""
        loop = asyncio.get_running_loop()
        run = copy_context().run
        return await loop.run_in_executor(self._blocking, partial(run, function, *arguments))

    async def run_anywhere(self, flow: Flow, work: int, steps: Generator[None, None, _T]) -> _T:
        """Run work on the event loop if that is sooner than a thread and holds nobody up.

        That is so if it is short, and if it takes up to a millisecond of a stream that is alone.
        Other work runs as by :meth:`run_steps`.
        """
        is_alone = self._note(flow)
        if work > _SHORT_WORK and not (is_alone and work * flow.pace <= _LONGEST_INLINE_SECONDS):
            return await self.submit(flow, work, steps)
        return await self._submit_inline(flow, work, steps)

    def submit_anywhere(
        self, flow: Flow, work: int, steps: Generator[None, None, _T]
    ) -> asyncio.Future[_T]:
        """Queue work, for the event loop if it is short, without waiting for its result."""
        if work > _SHORT_WORK:
            return self.submit(flow, work, steps)
        self._note(flow)
        return self._submit_inline(flow, work, steps)

    def _note(self, flow: Flow) -> bool:
        """Note that a stream has work, and return whether it is alone."""
        now = time.monotonic()
        if flow is not self._latest:
            self._latest, self._shared_at = flow, now
        return now - self._shared_at > _ALONE_SECONDS

    def _submit_inline(
        self, flow: Flow, work: int, steps: Generator[None, None, _T]
    ) -> asyncio.Future[_T]:
        """Run work on the event loop, at once or in a later round.

        Each round of the loop runs some, in the order of the queue, so that requests that arrive
        meanwhile are seen before further work begins.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        group = self._inline.choose_group(flow, work)
        if self._round_seconds < 2 * _ROUND_SECONDS and self._inline.is_next(flow, group):
            if not self._is_round_due:
                self._is_round_due = True
                loop.call_soon(self._begin_round)
            self._inline.serve_now(flow, group)
            self._call(flow, _Inline(group, work, future, steps, None))
        else:
            self._inline.put(flow, group, _Inline(group, work, future, steps, copy_context()))
        return future

    def _begin_round(self) -> None:
        self._round_seconds = 0.0
        while len(self._inline) and self._round_seconds < _ROUND_SECONDS:
            self._call(*self._inline.take())
        self._is_round_due = self._round_seconds > 0.0
        if self._is_round_due:
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _call(self, flow: Flow, inline: _Inline) -> None:
        group, work, future, steps, context = inline
        clocks = _clocks()
        if not future.cancelled():
            try:
                result = _all_of(steps) if context is None else context.run(_all_of, steps)
                future.set_result(result)
            except Exception as error:
                future.set_exception(error)
        self._record_call(flow, group, work, clocks)

    def _record_call(self, flow: Flow, group: int, work: int, begin: tuple[float, float]) -> None:
        now, worked = _clocks()
        self._round_seconds += now - begin[0]
        # What other processes took of the time meanwhile is not the stream's fault: charged with
        # 20 ms, it would wait until each of the others has had as much.
        self._inline.charge(flow, group, worked - begin[1])
        flow.record_work(work, worked - begin[1])

    def _serve(self) -> None:
        while True:
            self._wake_ups.get()
            with self._lock:
                if self._is_closed:
                    return
                flow, job = self._queue.take()
            begin = time.thread_time()
            has_more = job.step()
            seconds = time.thread_time() - begin
            job.seconds += seconds
            with self._lock:
                self._queue.charge(flow, job.group, seconds)
                if has_more:
                    self._queue.put(flow, job.group, job, is_begun=True)
            if has_more:
                self._wake_ups.put(None)
            else:
                flow.record_work(job.work, job.seconds)
            del flow, job  # the result may be large

    @property
    def num_waiting(self) -> int:
        """Count the work that waits for a thread, or for the event loop."""
        with self._lock:
            return len(self._queue) + len(self._inline)

    def close(self) -> None:
        """End the threads after their current steps."""
        with self._lock:
            self._is_closed = True
            self._queue = FairQueue()
        for _ in self._threads:
            self._wake_ups.put(None)
        for thread in self._threads:
            thread.join()
        self._blocking.shutdown(cancel_futures=True)


def _clocks() -> tuple[float, float]:
    """Read the time, and this thread's time on the processor, in seconds."""
    return time.perf_counter(), time.thread_time()


def _all_of(steps: Generator[None, None, _T]) -> _T:
    """Run all steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _one_step(
    function: Callable[..., _T], arguments: tuple[object, ...]
) -> Generator[None, None, _T]:
    return function(*arguments)
    yield
