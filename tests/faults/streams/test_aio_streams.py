"""Promise 5 with asyncio: servers are killed, cut off and silenced, and no byte differs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from negserve import EpochBatch, EpochConfig, aio
from tests.contract.test_promises import assert_same
from tests.faults.conftest import (
    BATCH_SIZE,
    NUM_TRIPLES,
    SAMPLER,
    Servers,
    expected_digest,
    pieces_of,
)
from tests.support.epochs import union_digest
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess

PATIENCE = 60.0


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(limited())


async def open_stream(client: aio.Client, rank: int = 0, world_size: int = 1) -> aio.EpochStream:
    config = EpochConfig(batch_size=BATCH_SIZE, rank=rank, world_size=world_size)
    return (await client.triples_factory("world")).epochs(SAMPLER, config, prefetch=1)


async def read(stream: aio.EpochStream) -> list[EpochBatch]:
    return [batch async for batch in stream]


def assert_undisturbed(batches: list[EpochBatch]) -> None:
    assert union_digest(pieces_of(batches), NUM_TRIPLES) == expected_digest()


def test_a_server_killed_three_times_in_an_epoch_of_two_ranks(servers: Servers):
    async def main() -> None:
        server = servers.start()
        with tcp_proxy(server.target) as proxy:
            async with aio.Client(proxy.target, timeout=10, patience=PATIENCE) as client:
                streams = [await open_stream(client, rank, 2) for rank in range(2)]
                proxy.cut_after(300, server.kill)
                reading = asyncio.gather(*map(read, streams))
                for num_bytes in (600_000, 1_500_000, None):
                    assert await asyncio.to_thread(proxy.struck.wait, PATIENCE)
                    server = await asyncio.to_thread(servers.start)
                    if num_bytes is not None:
                        proxy.cut_after(num_bytes, server.kill)
                    proxy.lead_to(server.target)
                assert_undisturbed([batch for batches in await reading for batch in batches])

    run(main)


def test_one_of_two_replicas_killed_and_the_other_drained(servers: Servers):
    async def main() -> None:
        first, second = servers.start_two()
        async with aio.Client([first.target, second.target], patience=PATIENCE) as client:
            stream = aiter(await open_stream(client))
            batches = [await anext(stream)]
            first.kill()
            batches += [await anext(stream) for _ in range(60)]
            assert client.target == second.target
            third = await asyncio.to_thread(servers.start, listen=first.target)
            assert await asyncio.to_thread(second.terminate) == 0
            batches += [batch async for batch in stream]
            assert client.target == third.target
        assert_undisturbed(batches)

    run(main)


def test_a_run_that_was_cancelled_goes_on_from_its_state(steady: ServerProcess):
    async def main() -> None:
        batches: list[EpochBatch] = []
        state = {"epoch": 0, "start": 0}
        for _ in range(6):
            async with aio.Client(steady.target) as client:
                stream = await open_stream(client)
                stream.load_state_dict(state)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.03 if len(batches) < 100 else 60):
                        async for batch in stream:
                            batches += [batch]
                state = stream.state_dict()
                if state["epoch"] == 1:
                    break
        else:
            async with aio.Client(steady.target) as client:
                stream = await open_stream(client)
                stream.load_state_dict(state)
                batches += [batch async for batch in stream]
        assert_undisturbed(batches)

    run(main)


@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_connection_cut_or_silent(steady: ServerProcess, fault: str):
    options = {"num_negs_per_pos": 4000, "filter_splits": ("training",), "seed": 3}
    positives = load("world").mapped_triples[:1500]

    async def main() -> None:
        with tcp_proxy(steady.target) as proxy:
            async with aio.Client(proxy.target, timeout=1, patience=PATIENCE) as client:
                found = await client.triples_factory("world")
                sampler = await found.open_sampler(**options)
                stream = await open_stream(client)
                strike = proxy.cut_after if fault == "cut" else proxy.silence_after
                strike(2_000_000)
                work = asyncio.gather(sampler.sample(positives, 99), read(stream))
                assert await asyncio.to_thread(proxy.struck.wait, PATIENCE)
                proxy.lead_to(steady.target)
                drawn, batches = await work
                assert_same(drawn, load("world").open_sampler(**options).sample(positives, 99))
                assert_undisturbed(batches)
                assert proxy.num_connections >= 2

    run(main)
