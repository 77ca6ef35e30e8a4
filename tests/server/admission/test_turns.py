"""The order of work among streams, without a clock: one thread, and steps that leave a record."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterator

import pytest

from negserve_server.admission.turns import Account, FairQueue, Turns

SMALL, LARGE = 1000, 500_000


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns(1)
    yield turns
    turns.close()


def _steps(name: str, number: int, done: list[str]) -> Generator[None, None, str]:
    for _ in range(number):
        done.append(name)
        yield
    return name


def _blocked(gate: threading.Event) -> Generator[None, None, None]:
    gate.wait(60)
    return
    yield


def test_a_small_request_does_not_wait_for_large_ones(turns: Turns):
    done: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        first = turns.begin(Account(), LARGE, _blocked(gate))
        large = [turns.begin(Account(), LARGE, _steps(f"large {i}", 50, done)) for i in range(8)]
        small = turns.begin(Account(), SMALL, _steps("small", 1, done))
        gate.set()
        assert await small == "small"
        assert [await each for each in large] == [f"large {i}" for i in range(8)]
        await first

    asyncio.run(main())
    assert done.index("small") <= 1


def test_large_requests_go_on_beside_small_ones_without_end():
    queue: FairQueue[str] = FairQueue()
    large, small = Account(), [Account() for _ in range(60)]
    queue.put(large, large.group(LARGE), "large")
    for account in small:
        queue.put(account, account.group(SMALL), "small")
    taken = []
    for _ in range(600):
        account, item = queue.take()
        group = account.group(LARGE if item == "large" else SMALL)
        queue.charge(account, group, 0.0003)
        queue.put(account, group, item)
        taken.append(item)
    assert 250 <= taken.count("large") <= 350


def test_equal_requests_of_streams_are_served_in_turn():
    queue: FairQueue[int] = FairQueue()
    accounts = [Account() for _ in range(10)]
    for i, account in enumerate(accounts):
        for _ in range(10 if i else 100):  # the first has ten times as many to do
            queue.put(account, account.group(LARGE), i)
    first = []
    for _ in range(100):
        account, i = queue.take()
        queue.charge(account, account.group(LARGE), 0.0003)
        first.append(i)
    assert all(9 <= first.count(i) <= 12 for i in range(10))


def test_trainers_with_pauses_come_before_busy_streams():
    queue: FairQueue[str] = FairQueue()
    busy, trainer = [Account() for _ in range(60)], Account()
    for _ in range(10):
        trainer.note_pause(0.005)
    for account in busy:
        for pause in (0.001, 0.001, 0.02, 0.001):  # the network's, once
            account.note_pause(pause)
        queue.put(account, account.group(SMALL), "busy")
    for _ in range(20):
        queue.put(trainer, trainer.group(SMALL), "trainer")
        items = []
        for _ in range(20):  # what is served while it trains
            account, item = queue.take()
            queue.charge(account, account.group(SMALL), 0.0003)
            items.append(item)
            if item == "busy":
                queue.put(account, account.group(SMALL), item)
        assert items.index("trainer") <= 1


def test_absent_streams_gain_no_turns():
    queue: FairQueue[str] = FairQueue()
    busy, late = Account(), Account()
    for _ in range(1000):
        queue.put(busy, busy.group(SMALL), "busy")
        queue.charge(queue.take()[0], busy.group(SMALL), 0.0003)
    for _ in range(50):
        queue.put(busy, busy.group(SMALL), "busy")
        queue.put(late, late.group(SMALL), "late")
    items = [queue.take()[1] for _ in range(20)]
    assert 8 <= items.count("busy") <= 12


def test_a_round_of_the_loop_makes_calls_for_a_while_only(turns: Turns):
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

        await asyncio.gather(*(turns.call_here(Account(), SMALL, call) for _ in range(20)))
        counter.cancel()
        assert len(set(done)) == 20

    asyncio.run(main())


def test_calls_that_nobody_awaits_are_cancelled(turns: Turns):
    done: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        first = turns.begin(Account(), LARGE, _blocked(gate))
        given_up = turns.begin(Account(), LARGE, _steps("given up", 50, done))
        given_up.cancel()
        gate.set()
        await first
        await turns.call(Account(), LARGE, int)

    asyncio.run(main())
    assert done == []


@pytest.mark.parametrize("where", ["call", "call_here", "call_aside"])
def test_errors_are_reported(turns: Turns, where: str):
    async def main() -> None:
        arguments = () if where == "call_aside" else (Account(), SMALL)
        with pytest.raises(ZeroDivisionError):
            await getattr(turns, where)(*arguments, divmod, 1, 0)

    asyncio.run(main())
