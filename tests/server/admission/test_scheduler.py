"""The order of work among streams, without a clock: one thread, and steps that leave a record."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterator

import pytest

from negserve_server.admission.fair_queue import FairQueue, Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.logs.call import CALL, LoggedCall

SMALL, LARGE = 1000, 500_000


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(1)
    yield scheduler
    scheduler.close()


def _steps(name: str, number: int, done: list[str]) -> Generator[None, None, str]:
    for _ in range(number):
        done.append(name)
        yield
    return name


def _blocked(gate: threading.Event) -> Generator[None, None, None]:
    gate.wait(60)
    return
    yield


def test_a_small_request_does_not_wait_for_large_ones(scheduler: Scheduler):
    done: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        first = scheduler.submit(Flow(), LARGE, _blocked(gate))
        large = [scheduler.submit(Flow(), LARGE, _steps(f"large {i}", 50, done)) for i in range(8)]
        small = scheduler.submit(Flow(), SMALL, _steps("small", 1, done))
        gate.set()
        assert await small == "small"
        assert [await each for each in large] == [f"large {i}" for i in range(8)]
        await first

    asyncio.run(main())
    assert done.index("small") <= 1


def test_large_requests_go_on_beside_small_ones_without_end():
    queue: FairQueue[str] = FairQueue()
    large, small = Flow(), [Flow() for _ in range(60)]
    queue.put(large, queue.choose_group(large, LARGE), "large")
    for flow in small:
        queue.put(flow, queue.choose_group(flow, SMALL), "small")
    taken = []
    for _ in range(600):
        flow, item = queue.take()
        group = queue.choose_group(flow, LARGE if item == "large" else SMALL)
        queue.charge(flow, group, 0.0003)
        queue.put(flow, group, item)
        taken.append(item)
    assert 250 <= taken.count("large") <= 350


def test_equal_requests_of_streams_are_served_in_turn():
    queue: FairQueue[int] = FairQueue()
    flows = [Flow() for _ in range(10)]
    for i, flow in enumerate(flows):
        for _ in range(10 if i else 100):  # the first has ten times as many to do
            queue.put(flow, queue.choose_group(flow, LARGE), i)
    first = []
    for _ in range(100):
        flow, i = queue.take()
        queue.charge(flow, queue.choose_group(flow, LARGE), 0.0003)
        first.append(i)
    assert all(9 <= first.count(i) <= 12 for i in range(10))


def shares_of_turns(first_seconds: float, seconds: float) -> list[int]:
    """Let four streams take 400 turns; the first one's take another time. Count those of each."""
    queue: FairQueue[int] = FairQueue()
    flows = [Flow() for _ in range(4)]
    for i, flow in enumerate(flows):
        queue.put(flow, queue.choose_group(flow, LARGE), i)
    taken = []
    for _ in range(400):
        flow, i = queue.take()
        group = queue.choose_group(flow, LARGE)
        queue.charge(flow, group, seconds if i else first_seconds)
        queue.put(flow, group, i)
        taken.append(i)
    return [taken.count(i) for i in range(4)]


def test_what_the_machine_makes_of_equal_requests_is_not_charged():
    """The first stream is late each time, by less than would make its requests other ones."""
    assert all(98 <= share <= 102 for share in shares_of_turns(0.0008, 0.0006))


def test_a_stream_of_costly_requests_gets_fewer_turns():
    assert shares_of_turns(0.003, 0.0005)[0] < 50


@pytest.mark.parametrize("late", [1, 5], ids=["quiet machine", "busy machine"])
def test_trainers_with_pauses_come_before_busy_streams(late: int):
    """On a busy machine all clients are late, so that those that only draw seem to pause, too."""
    now = 0.0
    queue: FairQueue[Flow] = FairQueue(lambda: now)
    busy, trainer = [Flow() for _ in range(60)], Flow()
    waits: list[int] = []
    turns = 0

    def ask(flow: Flow) -> None:
        queue.put(flow, queue.choose_group(flow, SMALL), flow)

    for flow in busy:
        ask(flow)
    trains_until = 0.0
    asked_at = None
    while len(waits) < 100:
        if asked_at is None and now >= trains_until:
            trainer.record_pause(0.006)
            ask(trainer)
            asked_at = turns
        flow, _ = queue.take()
        turns += 1
        now += 0.0003
        if flow is trainer:
            assert asked_at is not None
            waits.append(turns - asked_at)
            asked_at, trains_until = None, now + 0.006
        else:
            for pause in (0.0005, 0.0005, 0.0005, 0.002):  # the network's, at times
                flow.record_pause(late * pause)
            ask(flow)
    waits = sorted(waits[20:])  # until the pauses are known
    assert waits[-4] <= 12  # a fair share would be one turn in 61


def test_absent_streams_gain_no_turns():
    queue: FairQueue[str] = FairQueue()
    busy, late = Flow(), Flow()
    for _ in range(1000):
        queue.put(busy, queue.choose_group(busy, SMALL), "busy")
        queue.charge(queue.take()[0], queue.choose_group(busy, SMALL), 0.0003)
    for _ in range(50):
        queue.put(busy, queue.choose_group(busy, SMALL), "busy")
        queue.put(late, queue.choose_group(late, SMALL), "late")
    items = [queue.take()[1] for _ in range(20)]
    assert 8 <= items.count("busy") <= 12


def test_a_round_of_the_loop_makes_calls_for_a_while_only(scheduler: Scheduler):
    async def main() -> None:
        rounds, done = 0, []

        async def count() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count())

        def call() -> Generator[None, None, None]:
            time.sleep(0.001)  # longer than a round may
            done.append(rounds)
            return
            yield

        await asyncio.gather(*(scheduler.run_anywhere(Flow(), SMALL, call()) for _ in range(20)))
        counter.cancel()
        assert len(set(done)) == 20

    asyncio.run(main())


def test_calls_that_nobody_awaits_are_cancelled(scheduler: Scheduler):
    done: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        first = scheduler.submit(Flow(), LARGE, _blocked(gate))
        given_up = scheduler.submit(Flow(), LARGE, _steps("given up", 50, done))
        given_up.cancel()
        gate.set()
        await first
        await scheduler.run(Flow(), LARGE, int)

    asyncio.run(main())
    assert done == []


@pytest.mark.parametrize("where", ["run", "run_blocking"])
def test_errors_are_reported(scheduler: Scheduler, where: str):
    async def main() -> None:
        arguments = () if where == "run_blocking" else (Flow(), SMALL)
        with pytest.raises(ZeroDivisionError):
            await getattr(scheduler, where)(*arguments, divmod, 1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("work", [SMALL, LARGE])
def test_errors_of_steps_are_reported(scheduler: Scheduler, work: int):
    def steps() -> Generator[None, None, None]:
        yield
        divmod(1, 0)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await scheduler.run_anywhere(Flow(), work, steps())

    asyncio.run(main())


def test_work_is_logged_as_that_of_its_call_wherever_it_runs(scheduler: Scheduler):
    def call_of() -> Generator[None, None, str]:
        time.sleep(0.001)  # longer than a round may, so that most of the work is queued
        found = CALL.get()
        assert found is not None
        return found.id
        yield

    async def draw(number: int, work: int) -> None:
        CALL.set(LoggedCall(str(number), "Sample", "peer", ""))
        assert await scheduler.run_anywhere(Flow(), work, call_of()) == str(number)
        found = await scheduler.run_blocking(CALL.get)
        assert found is not None
        assert found.id == str(number)

    async def main() -> None:
        await asyncio.gather(*(draw(i, work) for i, work in enumerate([SMALL, LARGE] * 5)))

    asyncio.run(main())


def _where() -> Generator[None, None, int]:
    """Tell which thread does it."""
    yield
    return threading.get_ident()


@pytest.mark.parametrize(
    ("pace", "alone_seconds", "is_inline"),
    [
        (1e-9, 0.0, True),  # half a millisecond, and nobody else
        (1e-8, 0.0, False),  # five milliseconds
        (1e-9, float("inf"), False),  # others may have work
        (float("inf"), 0.0, False),  # unknown
    ],
)
def test_work_of_a_stream_that_is_alone_needs_no_thread_if_it_takes_below_a_millisecond(
    scheduler: Scheduler,
    monkeypatch: pytest.MonkeyPatch,
    pace: float,
    alone_seconds: float,
    is_inline: bool,
):
    monkeypatch.setattr("negserve_server.admission.scheduler._ALONE_SECONDS", alone_seconds)

    async def main() -> None:
        flow, loop = Flow(), threading.get_ident()
        assert await scheduler.run_anywhere(flow, SMALL, _where()) == loop
        flow.pace = pace
        assert (await scheduler.run_anywhere(flow, LARGE, _where()) == loop) is is_inline

    asyncio.run(main())


def test_queued_work_needs_no_thread_if_it_is_short(scheduler: Scheduler):
    async def main() -> None:
        flow, loop = Flow(), threading.get_ident()
        queued = [scheduler.submit_anywhere(flow, SMALL, _where()) for _ in range(3)]
        assert await asyncio.gather(*queued) == [loop] * 3
        assert await scheduler.submit_anywhere(flow, LARGE, _where()) != loop

    asyncio.run(main())


def test_short_work_in_excess_of_a_round_waits_for_the_next_one(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
):
    """A stream that queues much short work does not keep the others from the event loop."""
    monkeypatch.setattr("negserve_server.admission.scheduler._ROUND_SECONDS", 0.0)

    async def main() -> None:
        first = scheduler.submit_anywhere(Flow(), SMALL, _where())
        second = scheduler.submit_anywhere(Flow(), SMALL, _where())
        assert not second.done()
        first.cancel()
        second.cancel()

    asyncio.run(main())


def test_failures_of_short_work_come_with_its_result(scheduler: Scheduler):
    def failing() -> Generator[None, None, None]:
        raise MemoryError
        yield

    async def main() -> None:
        future = scheduler.submit_anywhere(Flow(), SMALL, failing())
        with pytest.raises(MemoryError):
            await future

    asyncio.run(main())


@pytest.mark.parametrize("way", ["submit", "submit_anywhere", "run_anywhere"])
def test_a_stream_is_not_alone_right_after_the_work_of_another(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, way: str
):
    monkeypatch.setattr("negserve_server.admission.scheduler._ALONE_SECONDS", 3600.0)

    async def main() -> None:
        flow, loop = Flow(), threading.get_ident()
        await scheduler.run_anywhere(flow, SMALL, _where())
        scheduler._shared_at = float("-inf")  # that was long ago
        flow.pace = 1e-9
        assert await scheduler.run_anywhere(flow, LARGE, _where()) == loop
        await getattr(scheduler, way)(Flow(), SMALL, _where())
        flow.pace = 1e-9
        assert await scheduler.run_anywhere(flow, LARGE, _where()) != loop

    asyncio.run(main())


def test_the_pace_of_a_stream_is_that_of_all_its_work(scheduler: Scheduler):
    def steps() -> Generator[None, None, None]:
        for _ in range(3):
            until = time.thread_time() + 0.002
            while time.thread_time() < until:
                pass
            yield

    async def main() -> None:
        for work in (SMALL, LARGE):
            flow = Flow()
            await scheduler.run_anywhere(flow, work, steps())
            await scheduler.run(flow, SMALL, int)  # the thread is done with the first
            assert flow.pace * work > 0.004

    asyncio.run(main())
