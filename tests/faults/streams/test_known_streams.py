"""Known values whose server is lost in the middle of a divided answer are whole nevertheless."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from negserve import Client, KnownValues, aio
from tests.faults.conftest import Servers
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess

WORLD = load("world")
MANY = WORLD.relation_to_id["member_of"], WORLD.entity_to_id["United Nations"]
#: 2.7 million values in messages of 2^17: each message of 2^14 pairs is answered by 21.
PAIRS = np.concatenate([WORLD.mapped_triples[:500, 1:], np.full((17_000, 2), MANY)])


def blocking(targets: list[str]) -> KnownValues:
    with Client(targets, timeout=10) as client:
        return client.triples_factory("world").known(PAIRS, "head", ("training",))


def awaited(targets: list[str]) -> KnownValues:
    async def main() -> KnownValues:
        async with aio.Client(targets, timeout=10) as client:
            factory = await client.triples_factory("world")
            return await factory.known(PAIRS, "head", ("training",))

    return asyncio.run(main())


both_clients = pytest.mark.parametrize("ask", [blocking, awaited], ids=["blocking", "asyncio"])
Ask = Callable[[list[str]], Any]


def assert_whole(known: KnownValues) -> None:
    expected = WORLD.known(PAIRS, "head", ("training",))
    np.testing.assert_array_equal(known.counts, expected.counts)
    np.testing.assert_array_equal(known.values, expected.values)


@both_clients
@pytest.mark.parametrize("num_bytes", [100_000, 1_500_000, 5_100_000])
def test_a_cut(steady: ServerProcess, ask: Ask, num_bytes: int):
    with tcp_proxy(steady.target) as proxy:
        proxy.cut_after(num_bytes)
        assert_whole(ask([proxy.target]))
        assert proxy.struck.is_set()


@both_clients
def test_a_killed_server(servers: Servers, steady: ServerProcess, ask: Ask):
    doomed = servers.start()
    with tcp_proxy(doomed.target) as proxy:
        proxy.cut_after(1_500_000, doomed.kill)
        assert_whole(ask([proxy.target, steady.target]))
        assert proxy.struck.is_set()


@both_clients
def test_silence(steady: ServerProcess, ask: Ask):
    with tcp_proxy(steady.target) as proxy:
        proxy.silence_after(1_500_000)
        assert_whole(ask([proxy.target, steady.target]))
        assert proxy.struck.is_set()
