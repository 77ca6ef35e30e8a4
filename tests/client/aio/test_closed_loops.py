"""Event loops that close while calls end: nothing is printed, nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from negserve.aio import Client
from negserve.aio.closed_loops import GRPC_CALLBACKS
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

PROGRAM = """
import asyncio, sys

import numpy as np

from negserve.aio import Client
from negserve.aio.closed_loops import GRPC_CALLBACKS

target, how, num_loops = sys.argv[1], sys.argv[2], int(sys.argv[3])
positives = np.tile([[int(word) for word in sys.argv[4:]]], (20_000, 1))

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
    known = map(str, load("world").mapped_triples[0].tolist())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, server.target, how, "70", *known],
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


def test_grpc_calls_back_with_functions_of_the_known_module(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
):
    """The module is private to gRPC: a version with another one needs its name in closed_loops."""
    modules = set()
    schedule = asyncio.BaseEventLoop.call_soon_threadsafe

    def noting(loop: asyncio.BaseEventLoop, callback: Any, *rest: Any, **options: Any) -> Any:
        modules.add(getattr(callback, "__module__", ""))
        return schedule(loop, callback, *rest, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", noting)
    stopped = asyncio.new_event_loop()
    first, second = Client(server.target), Client(server.target)
    deadline = time.monotonic() + 60
    steps = 0
    while GRPC_CALLBACKS not in modules and time.monotonic() < deadline:
        steps = steps % 20 + 1
        task = stopped.create_task(first.list_datasets())
        for _ in range(steps):
            stopped.run_until_complete(asyncio.sleep(0))
        asyncio.run(asyncio.wait_for(second.list_datasets(), 30))  # while the first loop stands
        stopped.run_until_complete(task)
    stopped.run_until_complete(first.close())
    stopped.close()
    assert GRPC_CALLBACKS in modules
