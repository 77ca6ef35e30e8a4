"""Promise 5: kill anything at any moment; no position is lost or repeated, no byte differs."""

from __future__ import annotations

import itertools
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from negserve import Client, EpochBatch, EpochStream
from tests.faults.conftest import (
    NUM_TRIPLES,
    Servers,
    expected_digest,
    open_stream,
    pieces_of,
)
from tests.support.children import trainer
from tests.support.epochs import union_digest
from tests.support.graphs import REPOSITORY
from tests.support.preloaded import PIPE, PreloadedProcess
from tests.support.programs.tcp_proxy import TcpProxy, tcp_proxy
from tests.support.server_process import ServerProcess

#: A server may take a while to start on a busy machine.
PATIENCE = 60.0


def assert_undisturbed(batches: list[EpochBatch]) -> None:
    assert union_digest(pieces_of(batches), NUM_TRIPLES) == expected_digest()


def in_background(threads: ThreadPoolExecutor, *streams: EpochStream) -> list[Future]:  # type: ignore[type-arg]
    return [threads.submit(list, stream) for stream in streams]


def results(running: list[Future]) -> list[EpochBatch]:  # type: ignore[type-arg]
    return [batch for future in running for batch in future.result(120)]


def test_a_server_killed_ten_times_in_an_epoch(servers: Servers):
    # Bytes from the proxy's opening, or from the last kill, to the next one. A stream begins with
    # some hundred bytes; a message has half a megabyte.
    kills = (0, 1, 60, 300, 5_000, 300_000, 600_000, 900_000, 1_500_000, 2_000_001)
    server = servers.start()
    with (
        tcp_proxy(server.target) as proxy,
        # The first five kills come before any batch, so they share one patience.
        Client(proxy.target, timeout=10, patience=5 * PATIENCE) as client,
        ThreadPoolExecutor(2) as threads,
        ThreadPoolExecutor(1) as starter,
    ):
        streams = [open_stream(client, rank, 2) for rank in range(2)]
        proxy.cut_after(kills[0], server.kill)
        running = in_background(threads, *streams)
        for number, num_bytes in enumerate([*kills[1:], None]):
            # On another port and on the same.
            other = starter.submit(servers.start) if number % 2 == 0 else None
            assert proxy.struck.wait(PATIENCE)
            server = other.result() if other else servers.start(listen=server.target)
            if num_bytes is not None:
                proxy.cut_after(num_bytes, server.kill)
            proxy.lead_to(server.target)
        assert_undisturbed(results(running))
        assert proxy.num_connections > len(kills)


def test_a_server_killed_and_restarted_while_a_trainer_holds_a_batch(servers: Servers):
    server = servers.start()
    with Client(server.target, timeout=10, patience=PATIENCE) as client:
        stream = iter(open_stream(client))
        batches = [next(stream)]
        for _ in range(2):
            server.kill()
            server = servers.start(listen=server.target)
            batches += itertools.islice(stream, 60)
        batches += stream
    assert_undisturbed(batches)


def test_one_of_two_replicas_killed_and_the_other_drained(servers: Servers):
    first, second = servers.start_two()
    with (
        Client([first.target, second.target], timeout=10, patience=PATIENCE) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        streams = [iter(open_stream(client, rank, 2)) for rank in range(2)]
        batches = [next(stream) for stream in streams]
        first.kill()
        for stream in streams:
            batches += itertools.islice(stream, 40)
        assert client.target == second.target
        third = servers.start(listen=first.target)
        assert second.terminate() == 0
        batches += results(in_background(threads, *streams))  # type: ignore[arg-type]
        assert client.target == third.target
    assert_undisturbed(batches)


def test_a_server_drained_while_its_client_takes_nothing(servers: Servers):
    first, second = servers.start_two()
    with Client([first.target, second.target], timeout=10, patience=PATIENCE) as client:
        stream = iter(open_stream(client))
        batches = [next(stream)]
        assert first.terminate() == 0
        batches += stream
        assert client.target == second.target
    assert_undisturbed(batches)


@pytest.fixture
def proxy(steady: ServerProcess) -> Iterator[TcpProxy]:
    with tcp_proxy(steady.target) as opened:
        yield opened


@pytest.mark.parametrize("start", [0, 200, 1_000_000])
def test_a_connection_cut_in_the_middle_of_a_message(proxy: TcpProxy, start: int):
    with (
        Client(proxy.target, timeout=10, patience=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        stream = open_stream(client)  # which asks for the dataset, over the first connection
        proxy.cut_after(start)
        running = in_background(threads, stream)
        for num_bytes in (300_000, 650_001):
            assert proxy.struck.wait(PATIENCE)
            proxy.cut_after(num_bytes)
        assert_undisturbed(results(running))
        assert proxy.struck.is_set()
        assert proxy.num_connections >= 3


@pytest.mark.parametrize("num_bytes", [0, 1_600_000])
def test_a_connection_that_goes_silent(proxy: TcpProxy, steady: ServerProcess, num_bytes: int):
    with (
        Client(proxy.target, timeout=0.5, patience=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        stream = open_stream(client)
        proxy.silence_after(num_bytes)
        running = in_background(threads, stream)
        assert proxy.struck.wait(PATIENCE)
        proxy.lead_to(steady.target)
        assert_undisturbed(results(running))
        assert proxy.num_connections >= 2


def test_a_replica_that_goes_silent(proxy: TcpProxy, steady: ServerProcess):
    with Client([proxy.target, steady.last_target], timeout=0.5, patience=PATIENCE) as client:
        stream = iter(open_stream(client))
        batches = [next(stream)]
        proxy.silence()
        batches += stream
        assert client.target == steady.last_target
    assert_undisturbed(batches)


def test_a_world_that_grows_while_the_server_is_killed(servers: Servers):
    server = servers.start()
    batches = []
    with Client(server.target, timeout=10, patience=PATIENCE) as client:
        streams = [open_stream(client, rank, 3) for rank in range(3)]
        for rank, stream in enumerate(streams):
            taken = iter(stream)
            batches += itertools.islice(taken, 1)
            if rank == 1:
                server.kill()
                server = servers.start(listen=server.target)
            batches += itertools.islice(taken, 22)
            taken.close()  # type: ignore[attr-defined]
        (state, *others) = [stream.state_dict() for stream in streams]
        assert others == [state, state]
        for rank in range(5):
            stream = open_stream(client, rank, 5)
            stream.load_state_dict(state)
            taken = iter(stream)
            batches += itertools.islice(taken, 1)
            if rank == 3:
                server.kill()
                server = servers.start(listen=server.target)
            batches += taken
    assert_undisturbed(batches)


def test_a_trainer_killed_and_resumed_from_its_state(steady: ServerProcess, tmp_path: Path):
    command = ["-m", "tests.support.children.trainer", steady.target, str(tmp_path), "0", "1"]
    for last in (3, 20, 21, None):
        process = PreloadedProcess(command, stdout=PIPE, cwd=REPOSITORY)
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if last is not None and int(line) >= last:
                    process.kill()
                    break
        assert process.wait(60) == (0 if last is None else -signal.SIGKILL)
    steps = [pickle.loads(path.read_bytes()) for path in sorted(tmp_path.glob("*.step"))]
    pieces = pieces_of([step["batch"] for step in steps])
    assert union_digest(pieces, NUM_TRIPLES) == expected_digest(trainer.SAMPLER)
    with Client(steady.target) as client:
        config = trainer.EpochConfig(batch_size=trainer.BATCH_SIZE)
        stream = client.triples_factory("world").epochs(trainer.SAMPLER, config, digest=True)
        assert len(list(stream)) == len(steps)
        assert steps[-1]["state"] == stream.state_dict()


def test_streams_that_the_server_ends_for_their_age(servers: Servers):
    server = servers.start("--max-stream-seconds", "0.001")
    with (
        tcp_proxy(server.target) as proxy,
        Client(proxy.target, timeout=10, patience=PATIENCE) as client,
    ):
        calls = 0
        open_call = client._transport.open_busy

        def counting(*arguments):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            return open_call(*arguments)

        stream = open_stream(client)
        client._transport.open_busy = counting  # type: ignore[method-assign]
        # Each has what was prepared at once: some messages of an epoch's forty.
        first, *_ = [list(stream) for _ in range(3)]
        assert_undisturbed(first)
        assert calls > 20
        assert proxy.num_connections == 1  # no error, so no new connection
