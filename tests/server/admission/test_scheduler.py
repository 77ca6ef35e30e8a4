"""The order of work among streams, without a clock: one thread, and steps that leave a record."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterator

import pytest

from negserve_server.admission.fair_queue import FairQueue, Flow
from negserve_server.admission.scheduler import Scheduler

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

        def call() -> None:
            time.sleep(0.001)  # longer than a round may
            done.append(rounds)

        await asyncio.gather(*(scheduler.run_inline(Flow(), SMALL, call) for _ in range(20)))
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


@pytest.mark.parametrize("where", ["run", "run_inline", "run_blocking"])
def test_errors_are_reported(scheduler: Scheduler, where: str):
    async def main() -> None:
        arguments = () if where == "run_blocking" else (Flow(), SMALL)
        with pytest.raises(ZeroDivisionError):
            await getattr(scheduler, where)(*arguments, divmod, 1, 0)

    asyncio.run(main())
