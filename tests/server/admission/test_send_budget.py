"""The bound on answers computed ahead of their reader."""

from __future__ import annotations

import asyncio

import pytest

from negserve_server.access.caller import Caller, Quotas
from negserve_server.admission import send_budget as module
from negserve_server.admission.send_budget import SendBudget

MEGABYTE = 2**20


def test_the_bound_counts_bytes_in_memory_twice_if_they_are_there_twice():
    async def main() -> None:
        budget = SendBudget(64 * MEGABYTE)
        with budget.open(Caller()) as one, budget.open(Caller()) as other:
            await one.reserve(8 * MEGABYTE)
            await other.reserve(16 * MEGABYTE)
            assert budget.num_bytes == 48 * MEGABYTE
            assert not one.try_reserve(9 * MEGABYTE)
            assert one.try_reserve(8 * MEGABYTE)
            assert not one.try_reserve(1)  # it has its half
            other.release(16 * MEGABYTE)
        assert budget.num_bytes == 0

    asyncio.run(main())


def test_waiters_get_freed_places_in_order_and_at_once_on_cancel():
    async def main() -> None:
        budget = SendBudget(4 * MEGABYTE)
        holder, first, second, third = (budget.open(Caller()) for _ in range(4))
        with holder, first, second, third:
            await holder.reserve(2 * MEGABYTE)
            waiting = [
                asyncio.create_task(share.reserve(MEGABYTE)) for share in (first, second, third)
            ]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            waiting[0].cancel()
            with holder:
                pass  # its stream is cancelled
            await asyncio.wait_for(asyncio.gather(*waiting[1:]), 20)
            assert first.num_bytes == 0
            assert budget.num_bytes == 4 * MEGABYTE
        assert budget.num_bytes == 0
        assert budget.num_holders == 0

    asyncio.run(main())


def test_many_that_are_cancelled_together_leave_nothing_behind():
    async def main() -> None:
        budget = SendBudget(4 * MEGABYTE)

        async def hold() -> None:
            with budget.open(Caller()) as share:
                await share.reserve(2 * MEGABYTE)
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(hold()) for _ in range(50)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in ended} == {asyncio.CancelledError}
        assert (budget.num_bytes, budget.num_holders, budget.has_waiters) == (0, 0, False)

    asyncio.run(main())


def test_stopped_trainers_do_not_stop_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_STALLED_SECONDS", 0.01)

    async def main() -> None:
        budget = SendBudget(2 * MEGABYTE)
        dropped = []
        with budget.open(Caller()) as stopped, budget.open(Caller()) as reader:
            await stopped.reserve(MEGABYTE)
            stopped.begin_sending(MEGABYTE, lambda: dropped.append(True))
            for _ in range(3):
                await asyncio.wait_for(reader.reserve(MEGABYTE), 20)
                assert not reader.try_reserve(MEGABYTE)
                reader.begin_sending(MEGABYTE)
                assert (budget.num_bytes, budget.num_stalled_bytes) == (2 * MEGABYTE, 2 * MEGABYTE)
                reader.end_sending()
            stopped.end_sending()
            assert (budget.num_bytes, budget.num_stalled_bytes) == (0, 0)
        assert dropped == [True]
        assert budget.num_holders == 0

    asyncio.run(main())


def test_an_answer_above_the_bound_is_given_alone():
    async def main() -> None:
        budget = SendBudget(0)
        with budget.open(Caller()) as share:
            await asyncio.wait_for(share.reserve(MEGABYTE), 20)

    asyncio.run(main())


def test_a_caller_with_a_bound_of_its_own_waits_for_itself_only():
    greedy = Caller(name="greedy", quotas=Quotas(max_ahead_bytes=2 * MEGABYTE))

    async def main() -> None:
        budget = SendBudget(64 * MEGABYTE)
        with (
            budget.open(greedy) as one,
            budget.open(greedy) as other,
            budget.open(Caller(name="modest")) as modest,
        ):
            await one.reserve(MEGABYTE)  # which is in memory twice
            assert not one.try_reserve(MEGABYTE)
            waiting = asyncio.create_task(other.reserve(MEGABYTE))
            await asyncio.sleep(0)
            await modest.reserve(8 * MEGABYTE)
            assert not waiting.done()
            assert budget.num_bytes == 2 * 9 * MEGABYTE
            one.begin_sending(MEGABYTE)
            one.end_sending()
            await waiting
            cancelled = asyncio.create_task(one.reserve(MEGABYTE))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            other.release(MEGABYTE)
            await one.reserve(MEGABYTE)
        assert budget.num_bytes == 0
        with budget.open(greedy) as one:
            assert one.try_reserve(MEGABYTE), "everything was given back"

    asyncio.run(main())
