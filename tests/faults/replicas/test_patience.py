"""No call waits forever: when patience is spent, one typed error names the cause."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from negserve import (
    Client,
    InvalidRequestError,
    NegserveError,
    ServiceError,
    StalledError,
    UnavailableError,
)
from tests.faults.conftest import Servers, open_stream
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess

PATIENCE = 1.0
TIMEOUT = 0.5
#: What a try may take longer: gRPC's own retries of a refused connection.
SLACK = 5.0


def assert_given_up(call: Callable[[], object], error: type[ServiceError], target: str) -> str:
    begin = time.monotonic()
    with pytest.raises(NegserveError) as caught:
        call()
    # All of the patience is used.
    assert PATIENCE - 0.1 < time.monotonic() - begin < PATIENCE + TIMEOUT + SLACK
    assert type(caught.value) is error
    assert target in str(caught.value)
    return str(caught.value)


def test_no_server_any_more(servers: Servers):
    server = servers.start()
    with Client(server.target, timeout=TIMEOUT, patience=PATIENCE) as client:
        stream = open_stream(client)
        batches = iter(stream)
        next(batches)
        server.kill()
        assert_given_up(lambda: list(batches), UnavailableError, server.target)
        # The state is that of the last batch that was given: nothing is lost.
        state = stream.state_dict()
        assert state["start"] % 32 == 0
        assert state["start"] >= 32
        server = servers.start(listen=server.target)
        assert next(iter(stream)).next_start == state["start"] + 32


def test_no_replica_any_more(servers: Servers):
    first, second = servers.start_two()
    with Client([first.target, second.target], timeout=TIMEOUT, patience=PATIENCE) as client:
        batches = iter(open_stream(client))
        first.kill()
        second.kill()
        assert_given_up(lambda: list(batches), UnavailableError, "127.0.0.1:")


@pytest.mark.parametrize("taken", [0, 1])
def test_only_silence(steady: ServerProcess, taken: int):
    with (
        tcp_proxy(steady.target) as proxy,
        Client(proxy.target, timeout=TIMEOUT, patience=PATIENCE) as client,
    ):
        stream = open_stream(client)
        batches = iter(stream)
        for _ in range(taken):
            next(batches)
        proxy.silence()
        told = assert_given_up(lambda: list(batches), StalledError, proxy.target)
        assert "no message for" in told
        assert "given up after" in told
        proxy.lead_to(steady.target)
        assert next(iter(stream)).next_start > 32 * taken


def test_only_silence_for_a_sampler(steady: ServerProcess):
    positives = load("world").mapped_triples[:10]
    with (
        tcp_proxy(steady.target) as proxy,
        Client(proxy.target, timeout=TIMEOUT, patience=PATIENCE) as client,
    ):
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=3)
        before = sampler.sample(positives, 0)
        proxy.silence()
        assert_given_up(lambda: sampler.sample(positives, 0), StalledError, proxy.target)
        proxy.lead_to(steady.target)
        assert sampler.sample(positives, 0).replaced.tolist() == before.replaced.tolist()


def test_a_sampler_that_is_refused_leaves_no_threads(steady: ServerProcess):
    with Client(steady.target) as client:
        factory = client.triples_factory("world")
        before = threading.active_count()
        for _ in range(5):
            with pytest.raises(InvalidRequestError):
                factory.open_sampler(algorithm_version=1)  # by the server
        deadline = time.monotonic() + 5
        while threading.active_count() > before + 1:  # the stall timer may be new
            assert time.monotonic() < deadline, threading.enumerate()
            time.sleep(0.05)


def test_patience_is_for_each_loss_not_for_all_together(steady: ServerProcess):
    """Many cuts, each followed by progress, do not use up a stream's small patience."""
    with (
        tcp_proxy(steady.target) as proxy,
        Client(proxy.target, timeout=10, patience=1) as client,
    ):
        batches = iter(open_stream(client))
        count = 0
        begin = time.monotonic()
        while time.monotonic() - begin < 1.5 or not count:
            count += sum(1 for _ in itertools.islice(batches, 4))
            proxy.cut()
        assert count + sum(1 for _ in batches) == -(-5408 // 32)
