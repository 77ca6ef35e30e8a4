"""From one epoch to the next in an event loop: on one stream of the server."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from negserve import EpochBatch, EpochConfig, SamplerConfig, aio
from negserve.aio.transport import AsyncTransport
from tests.contract.test_epochs import assert_equal
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

SECONDS = 60
SAMPLER = SamplerConfig(num_negs_per_pos=8, seed=4)
CONFIG = EpochConfig(batch_size=400)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Requests for epochs."""
    found, start = [], AsyncTransport._start

    def starting(transport: AsyncTransport, channel: Any, method: str, request: Any) -> Any:
        found.append(request)
        return start(transport, channel, method, request)

    monkeypatch.setattr(AsyncTransport, "_start", starting)
    return found


async def read(stream: aio.EpochStream) -> list[EpochBatch]:
    async with asyncio.timeout(SECONDS):
        return [batch async for batch in stream]


def assert_epoch(batches: list[EpochBatch], number: int) -> None:
    epoch = load("world").epoch(SAMPLER, CONFIG, number=number)
    assert len(batches) == len(epoch)
    for index, batch in enumerate(batches):
        assert_equal(batch, epoch.batch(index), number)


def test_epochs_come_on_one_stream(server: ServerProcess, requests: list[Any]):
    async def main() -> None:
        async with aio.Client(server.target) as client:
            stream = (await client.triples_factory("world")).epochs(SAMPLER, CONFIG)
            for number in range(3):
                assert_epoch(await read(stream), number)
            assert len(requests) == 1
            stream.load_state_dict({"epoch": 7, "start": 0})
            assert_epoch(await read(stream), 7)
            assert len(requests) == 2

    asyncio.run(main())


def test_epochs_in_several_loops(server: ServerProcess, requests: list[Any]):
    client = aio.Client(server.target)
    streams = []

    async def main(number: int) -> None:
        if not streams:
            streams.append((await client.triples_factory("world")).epochs(SAMPLER, CONFIG))
        assert_epoch(await read(streams[0]), number)

    for number in range(3):
        asyncio.run(main(number))
    assert len(requests) == 3
    asyncio.run(client.close())


def test_a_stream_that_is_garbage_ends(server: ServerProcess):
    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with aio.Client(server.target) as client:
            before = asyncio.all_tasks()
            stream = (await client.triples_factory("world")).epochs(SAMPLER, CONFIG)
            await read(stream)
            readers = asyncio.all_tasks() - before
            assert readers
            del stream
            gc.collect()
            async with asyncio.timeout(SECONDS):
                await asyncio.wait(readers)
        assert told == []

    asyncio.run(main())


def test_a_task_that_was_cancelled_is_started_again(server: ServerProcess, requests: list[Any]):
    async def main() -> None:
        async with aio.Client(server.target) as client:
            stream = (await client.triples_factory("world")).epochs(SAMPLER, CONFIG)
            before = asyncio.all_tasks()
            assert_epoch(await read(stream), 0)
            for task in asyncio.all_tasks() - before:
                task.cancel()
            assert_epoch(await read(stream), 1)
            assert len(requests) == 2

    asyncio.run(main())
