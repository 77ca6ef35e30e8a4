"""Event loops that close while calls end: nothing is printed, nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from negserve.aio import Client
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

PROGRAM = """
import asyncio, sys

import numpy as np

from negserve.aio import Client

target, how, num_loops = sys.argv[1], sys.argv[2], int(sys.argv[3])
positives = np.tile([[1, 1, 2]], (20_000, 1))

async def main(step):
    client = Client(target)
    graph = await client.triples_factory("world")
    samplers = [await graph.open_sampler(num_negs_per_pos=20) for _ in range(3)]
    tasks = [asyncio.create_task(sampler.sample(positives, 0)) for sampler in samplers]
    await asyncio.sleep(0.001 * (step % 8))
    if how == "left":
        return
    for task in tasks:
        task.cancel()
    if how == "closed":
        await client.close()
    else:
        await asyncio.gather(*tasks, return_exceptions=True)

for step in range(num_loops):
    asyncio.run(main(step))
"""


@pytest.mark.parametrize("how", ["left", "closed", "cancelled"])
def test_cancelled_samples_print_nothing(server: ServerProcess, how: str):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, server.target, how, "70"],
        capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_loop_refuses_callbacks_of_others(server: ServerProcess):
    loop = asyncio.new_event_loop()

    async def use() -> None:
        async with Client(server.target) as client, Client(server.target) as other:
            assert await client.list_datasets() == await other.list_datasets()

    loop.run_until_complete(use())
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)


def test_an_answer_is_taken_after_loops_that_were_left(server: ServerProcess):
    positives = np.tile(load("world").mapped_triples[:1], (5_000, 1))

    async def draw(seconds: float | None) -> int:
        async with Client(server.target) as client:
            sampler = await (await client.triples_factory("world")).open_sampler()
            batch = await asyncio.wait_for(sampler.sample(positives, 0), seconds)
            return len(batch.head_counts)

    for _ in range(10):
        with suppress(TimeoutError):
            asyncio.run(draw(0.0))
        assert asyncio.run(draw(None)) == len(positives)
