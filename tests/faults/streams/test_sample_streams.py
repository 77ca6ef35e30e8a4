"""``Sample`` streams through kills, cuts and silence: the same positions, the same bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from negserve import Client, CorruptedBatch
from negserve.types.corrupted_batch import join_batches
from tests.contract.test_promises import assert_same
from tests.faults.conftest import Servers
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess

OPTIONS = {"kind": "bernoulli", "num_negs_per_pos": 4000, "filter_splits": ("training",), "seed": 3}
#: 12 messages of a megabyte.
POSITIVES = load("world").mapped_triples[:1500]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def expected() -> CorruptedBatch:
    return load("world").open_sampler(**OPTIONS).sample(POSITIVES, 99)  # type: ignore[return-value]


@pytest.mark.parametrize("num_bytes", [0, 500_000, 3_500_000])
def test_a_server_killed(
    servers: Servers, steady: ServerProcess, expected: CorruptedBatch, num_bytes: int
):
    server = servers.start()
    with (
        tcp_proxy(server.target) as proxy,
        Client(proxy.target, timeout=10, patience=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        sampler = client.triples_factory("world").open_sampler(**OPTIONS)
        proxy.cut_after(num_bytes, server.kill)
        waiting = threads.submit(sampler.sample, POSITIVES, 99)
        assert proxy.struck.wait(PATIENCE)
        proxy.lead_to(steady.target)
        assert_same(waiting.result(PATIENCE), expected)


@pytest.mark.parametrize("num_bytes", [0, 500_000, 3_500_000])
def test_a_server_killed_under_a_stream_of_batches(
    servers: Servers, steady: ServerProcess, expected: CorruptedBatch, num_bytes: int
):
    server = servers.start()
    with (
        tcp_proxy(server.target) as proxy,
        Client(proxy.target, timeout=10, patience=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        sampler = client.triples_factory("world").open_sampler(**OPTIONS)
        proxy.cut_after(num_bytes, server.kill)
        batches = [(POSITIVES[begin : begin + 90], 99 + begin) for begin in range(0, 1500, 90)]
        waiting = threads.submit(lambda: list(sampler.stream(batches)))
        assert proxy.struck.wait(PATIENCE)
        proxy.lead_to(steady.target)
        assert_same(join_batches(waiting.result(PATIENCE)), expected)


def test_a_stream_of_batches_goes_on_at_another_replica(servers: Servers, expected: CorruptedBatch):
    first, second = servers.start_two()
    batches = [(POSITIVES[begin : begin + 90], 99 + begin) for begin in range(0, 1500, 90)]
    with Client([first.target, second.target], timeout=10, patience=PATIENCE) as client:
        stream = client.triples_factory("world").open_sampler(**OPTIONS).stream(batches)
        received = [next(stream) for _ in range(5)]
        first.kill()
        received += stream
        assert client.target == second.target
    assert_same(join_batches(received), expected)


@pytest.mark.parametrize("num_bytes", [0, 2_000_000])
@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_connection_cut_or_silent(
    steady: ServerProcess, expected: CorruptedBatch, fault: str, num_bytes: int
):
    with (
        tcp_proxy(steady.target) as proxy,
        Client(proxy.target, timeout=1, patience=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        sampler = client.triples_factory("world").open_sampler(**OPTIONS)
        strike = proxy.cut_after if fault == "cut" else proxy.silence_after
        strike(num_bytes)
        waiting = threads.submit(sampler.sample, POSITIVES, 99)
        assert proxy.struck.wait(PATIENCE)
        proxy.lead_to(steady.target)
        assert_same(waiting.result(PATIENCE), expected)
        assert proxy.num_connections >= 2


def test_a_sampler_is_opened_through_silence(steady: ServerProcess):
    with (
        tcp_proxy(steady.target) as proxy,
        Client([proxy.target, steady.target], timeout=0.5, patience=PATIENCE) as client,
    ):
        factory = client.triples_factory("world")
        proxy.silence()
        sampler = factory.open_sampler(**OPTIONS)
        assert client.target == steady.target
        assert len(sampler.sample(POSITIVES[:10], 0).replaced) == 10


def test_a_drained_server(servers: Servers, expected: CorruptedBatch):
    first, second = servers.start_two()
    with Client([first.target, second.target], timeout=10, patience=PATIENCE) as client:
        sampler = client.triples_factory("world").open_sampler(**OPTIONS)
        parts = [sampler.sample(POSITIVES[:700], 99)]
        assert first.terminate() == 0
        parts.append(sampler.sample(POSITIVES[700:], 799))
        assert client.target == second.target
    np.testing.assert_array_equal(
        np.concatenate([part.replaced for part in parts]), expected.replaced
    )
