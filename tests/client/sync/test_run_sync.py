"""Coroutines run without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import pytest

from negserve import Client, UnknownDatasetError
from negserve._sync.interrupts import run_sync
from tests.support.server_process import ServerProcess


async def passed_on(awaitable: Awaitable[int]) -> int:
    return await awaitable


async def seven() -> int:
    return 7


async def failing() -> int:
    raise ValueError("as it should")


def test_results_and_errors_come_out():
    assert run_sync(passed_on, seven()) == 7
    with pytest.raises(ValueError, match="as it should") as caught:
        run_sync(passed_on, failing())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_coroutine_that_suspends_is_closed_and_refused():
    ended = []

    async def suspending() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(True)

    with pytest.raises(RuntimeError, match="suspended"):
        run_sync(suspending)
    assert ended == [True]


def test_the_blocking_client_works_where_a_loop_runs(server: ServerProcess):
    """It blocks the loop, as any blocking call does; notebooks run one."""

    async def main() -> None:
        with Client(server.target) as client:
            factory = client.triples_factory("world")
            assert factory.num_positives((0,)) > 0
            assert len(next(iter(factory.epochs(factory.open_sampler().config))).positives) > 0
            with suppress(UnknownDatasetError):
                client.triples_factory("moon")
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
