"""The bound on answers computed ahead of their reader."""

from __future__ import annotations

import asyncio

import pytest

from negserve_server.admission import ahead as module
from negserve_server.admission.ahead import Ahead

MEGABYTE = 2**20


def test_the_bound_counts_bytes_in_memory_twice_if_they_are_there_twice():
    async def main() -> None:
        ahead = Ahead(64 * MEGABYTE)
        with ahead.open() as one, ahead.open() as other:
            await one.take(8 * MEGABYTE)
            await other.take(16 * MEGABYTE)
            assert ahead.num_bytes == 48 * MEGABYTE
            assert not one.take_ahead(9 * MEGABYTE)
            assert one.take_ahead(8 * MEGABYTE)
            assert not one.take_ahead(1)  # it has its half
            other.give_back(16 * MEGABYTE)
        assert ahead.num_bytes == 0

    asyncio.run(main())


def test_waiters_get_freed_places_in_order_and_at_once_on_cancel():
    async def main() -> None:
        ahead = Ahead(4 * MEGABYTE)
        holder, first, second, third = (ahead.open() for _ in range(4))
        with holder, first, second, third:
            await holder.take(2 * MEGABYTE)
            waiting = [
                asyncio.create_task(share.take(MEGABYTE)) for share in (first, second, third)
            ]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            waiting[0].cancel()
            with holder:
                pass  # its stream is cancelled
            await asyncio.wait_for(asyncio.gather(*waiting[1:]), 20)
            assert first.num_bytes == 0
            assert ahead.num_bytes == 4 * MEGABYTE
        assert ahead.num_bytes == 0
        assert ahead.num_holders == 0

    asyncio.run(main())


def test_many_that_are_cancelled_together_leave_nothing_behind():
    async def main() -> None:
        ahead = Ahead(4 * MEGABYTE)

        async def hold() -> None:
            with ahead.open() as share:
                await share.take(2 * MEGABYTE)
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(hold()) for _ in range(50)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in ended} == {asyncio.CancelledError}
        assert (ahead.num_bytes, ahead.num_holders, ahead.is_waited_for) == (0, 0, False)

    asyncio.run(main())


def test_stopped_trainers_do_not_stop_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_STOPPED_SECONDS", 0.01)

    async def main() -> None:
        ahead = Ahead(2 * MEGABYTE)
        dropped = []
        with ahead.open() as stopped, ahead.open() as reader:
            await stopped.take(MEGABYTE)
            stopped.begin_sending(MEGABYTE, lambda: dropped.append(True))
            for _ in range(3):
                await asyncio.wait_for(reader.take(MEGABYTE), 20)
                assert not reader.take_ahead(MEGABYTE)
                reader.begin_sending(MEGABYTE)
                assert (ahead.num_bytes, ahead.num_stopped_bytes) == (2 * MEGABYTE, 2 * MEGABYTE)
                reader.end_sending()
            stopped.end_sending()
            assert (ahead.num_bytes, ahead.num_stopped_bytes) == (0, 0)
        assert dropped == [True]
        assert ahead.num_holders == 0

    asyncio.run(main())


def test_an_answer_above_the_bound_is_given_alone():
    async def main() -> None:
        ahead = Ahead(0)
        with ahead.open() as share:
            await asyncio.wait_for(share.take(MEGABYTE), 20)

    asyncio.run(main())
