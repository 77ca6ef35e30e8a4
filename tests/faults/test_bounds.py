"""Slow and leaving trainers cost the server little, and nothing after they are gone."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from negserve import Client, EpochConfig, SamplerConfig
from negserve._protocol import messages
from negserve._transport.channels import AHEAD_BYTES
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.faults.conftest import Servers, open_stream
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess, server_process

MEGABYTE = 2**20


def wait_until_idle(server: ServerProcess) -> None:
    """Wait until the server has used no processor for a while."""
    deadline = time.monotonic() + 60
    before = -1.0
    while server.busy_seconds - before > 0.011:  # a tick is for health checks and timers
        assert time.monotonic() < deadline, "the server does not stop working"
        before = server.busy_seconds
        time.sleep(0.4)


def test_a_slow_trainer_costs_a_bounded_number_of_batches(servers: Servers):
    # 1 MB a batch, 169 MB an epoch.
    sampler = SamplerConfig(num_negs_per_pos=16_000)
    config = EpochConfig(batch_size=32)
    server = servers.start()
    with Client(server.target) as client:
        factory = client.triples_factory("world")
        before = server.resident_bytes
        stream = iter(factory.epochs(sampler, config, prefetch=1))
        next(stream)
        wait_until_idle(server)
        assert server.resident_bytes - before < 64 * MEGABYTE
        idle = server.busy_seconds
        assert sum(1 for _ in stream) == 168  # and it goes on where it was
        wait_until_idle(server)
        # Most of the work was still to be done.
        assert server.busy_seconds - idle > 0.05


def test_batches_sent_ahead_are_bounded(servers: Servers):
    server = servers.start()
    with tcp_proxy(server.target) as proxy, Client(proxy.target) as client:
        stream = iter(open_stream(client))
        next(stream)
        wait_until_idle(server)
        assert proxy.num_bytes < 16 * MEGABYTE  # of 43
        assert sum(1 for _ in stream) == 168
        assert proxy.num_bytes > 40 * MEGABYTE


def test_batches_on_their_way_to_clients_that_stopped_reading_are_bounded(servers: Servers):
    """Else gRPC takes as much of each stream as all of them together had in a round trip."""
    server = servers.start()
    sampler, config = SamplerConfig(num_negs_per_pos=1000), EpochConfig(batch_size=32)
    with tcp_proxy(server.target) as proxy, Client(proxy.target) as client:
        factory = client.triples_factory("world")
        streams = [iter(factory.epochs(sampler, config, prefetch=1)) for _ in range(8)]
        taken = 0
        for _, stream in itertools.product(range(100), streams):
            batch = next(stream)
            taken += batch.positives.nbytes // 3 + batch.negatives.replaced.nbytes
        wait_until_idle(server)
        held = proxy.num_bytes - taken
        # What the documents say: the window, a message, and a batch that is held.
        assert held < len(streams) * (AHEAD_BYTES + MEGABYTE)


def test_many_stopped_trainers_cost_what_the_bound_says_and_nothing_once_they_are_gone(
    servers: Servers,
):
    """Before the bound they took 0.4 GB, most of which stayed."""
    server = servers.start()
    request = messages.encode_epoch_request(
        "world", "", SamplerConfig(num_negs_per_pos=1000), EpochConfig(batch_size=32), 0, 0
    )
    with ExitStack() as stack, Client(server.target) as client:
        assert len(list(open_stream(client))) == 169
        before = server.resident_bytes
        calls = []
        for _ in range(10):
            channel = stack.enter_context(
                grpc.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(20):
                calls.append(SamplerServiceStub(channel).SampleEpoch(request))
                next(calls[-1])
        # Who reads goes on beside them.
        assert len(list(open_stream(client))) == 169
        wait_until_idle(server)
        # The bound of 64 MiB, and one message of each, which gRPC has.
        assert server.resident_bytes - before < 256 * MEGABYTE
        for call in calls:
            call.cancel()
        deadline = time.monotonic() + 60
        while server.resident_bytes - before > 48 * MEGABYTE:
            assert time.monotonic() < deadline, "memory is not given back"
            time.sleep(0.2)


def num_readers() -> int:
    return sum(thread.name == "negserve-epoch" for thread in threading.enumerate())


def test_closing_early_frees_the_stream_at_once_and_leaves_no_thread(servers: Servers):
    server = servers.start("--max-streams", "1")
    with Client(server.target, timeout=10, patience=2) as client:
        factory = client.triples_factory("world")
        stream = open_stream(client)
        for taken in (1, 2, 0, 1, 5, 3, 1):
            # The end of the one before travels to the server: a place is waited for, not long.
            batches = iter(stream)
            got = list(itertools.islice(batches, max(taken, 1)))
            assert len(got) == max(taken, 1)
            assert num_readers() == 1
            if taken:
                batches.close()  # type: ignore[attr-defined]
            else:
                del batches  # a loop that is left by break
            assert num_readers() == 0
        assert factory.num_triples == 5408


@pytest.mark.parametrize("harm", ["silence", "close"])
def test_closing_while_the_server_is_silent_or_away_does_not_wait(steady: ServerProcess, harm: str):
    with (
        tcp_proxy(steady.target) as proxy,
        Client(proxy.target, timeout=30, patience=60) as client,
    ):
        batches = iter(open_stream(client))
        next(batches)
        getattr(proxy, harm)()
        begin = time.monotonic()
        batches.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begin < 5
        assert num_readers() == 0


def test_many_epochs_leave_no_threads_behind(steady: ServerProcess):
    with Client(steady.target) as client:
        stream = client.triples_factory("world").epochs(
            SamplerConfig(), EpochConfig(batch_size=2000)
        )
        list(stream)
        before = threading.active_count()
        for _ in range(20):
            list(stream)
        deadline = time.monotonic() + 5  # grpc's own threads end a little later
        while threading.active_count() > before:
            assert time.monotonic() < deadline, threading.enumerate()
            time.sleep(0.05)


def test_samplers_that_nobody_holds_any_more_give_their_places_back(servers: Servers):
    server = servers.start("--max-streams", "4")
    positives = [[0, 0, 1]]
    with Client(server.target, timeout=20) as client:
        factory = client.triples_factory("world")
        threads = threading.active_count()
        for seed in range(40):
            factory.open_sampler(seed=seed).sample(positives, 0)
        gc.collect()
        deadline = time.monotonic() + 20
        while threading.active_count() > threads + 4:  # those of grpc that wait for requests
            assert time.monotonic() < deadline, "threads are left behind"
            time.sleep(0.02)


def test_clients_leave_no_thread_behind(servers: Servers):
    server = servers.start()
    for _ in range(3):
        with Client(server.target) as client:
            client.triples_factory("world").open_sampler().sample([[0, 0, 1]], 0)
    deadline = time.monotonic() + 20
    while any(thread.name == "negserve-stall-timer" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "timers without clients go on"
        time.sleep(0.1)


def test_clients_that_leave_are_no_errors_of_the_server(tmp_path: Path):
    log = tmp_path / "log"
    with server_process("--threads", "2", log=log) as server:
        deadline = time.monotonic() + 60
        # Until a connection was cut just while the server wrote to it, and some more.
        while log.read_text().count("its client is gone") < 2 and time.monotonic() < deadline:
            with (
                tcp_proxy(server.target) as proxy,
                Client(proxy.target, timeout=5, patience=0.2) as client,
            ):
                streams = [iter(open_stream(client)) for _ in range(4)]
                for stream in streams:
                    next(stream)
                proxy.cut()  # while the server writes
        with Client(server.target) as client:
            assert len(list(open_stream(client))) == 169
    assert "its client is gone" in log.read_text()
    assert "ERROR" not in log.read_text()
    assert "Traceback" not in log.read_text()
