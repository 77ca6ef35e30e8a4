"""Streams are spread over the replicas of a name, which come, drain and die; no byte differs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from negserve import (
    Client,
    EpochBatch,
    EpochConfig,
    SamplerConfig,
    StalledError,
    UnavailableError,
    aio,
)
from negserve._transport import replicas as replicas_module
from tests.faults.conftest import NUM_TRIPLES, SAMPLER, pieces_of
from tests.support.certificates import Authority
from tests.support.epochs import undisturbed_digest, union_digest
from tests.support.graphs import load
from tests.support.replicated import HOSTS, NAME, FakeResolver, Replicated, drawn, replicated
from tests.support.workers import wait_for

PATIENCE = 60.0
SECONDS = 120
QUIET = ("--threads", "1", "--drain-seconds", "0.5")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    """The resolver of this process; names are looked up again for each stream."""
    fake = FakeResolver(*HOSTS)
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    monkeypatch.setattr(replicas_module, "_FRESH_SECONDS", 0.0)
    return fake


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Replicated]:
    """Replicas to end, or with counts from zero."""
    with replicated(tmp_path, *QUIET) as running:
        yield running


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """Replicas that are never harmed."""
    with replicated(tmp_path_factory.mktemp("unharmed"), *QUIET) as running:
        yield running


#: A tenth of the negatives, of which the same part is drawn ahead.
SMALL = replace(SAMPLER, num_negs_per_pos=400)


def config_of(rank: int, world_size: int) -> EpochConfig:
    return EpochConfig(batch_size=32, rank=rank, world_size=world_size)


@cache
def wanted_digest(sampler: SamplerConfig, epoch: int) -> str:
    return undisturbed_digest(load("world"), sampler, epoch)


def assert_undisturbed(
    batches: list[EpochBatch], epoch: int = 0, sampler: SamplerConfig = SAMPLER
) -> None:
    pieces = pieces_of([batch for batch in batches if batch.epoch == epoch])
    wanted = wanted_digest(sampler, epoch)
    assert union_digest(pieces, NUM_TRIPLES) == wanted


def assert_equal_shares(servers: Replicated, num_epochs: int) -> None:
    # Some batches more are drawn ahead than are taken. What is told may be a part of a second old.
    num_taken = num_epochs * NUM_TRIPLES * SMALL.num_negs_per_pos
    wait_for(lambda: sum(servers.negatives().values()) >= num_taken, "all that was drawn counted")
    counts = servers.negatives().values()
    mean = sum(counts) / len(counts)
    assert max(counts) - min(counts) <= 0.1 * mean, counts


def test_eight_ranks_have_equal_shares_of_three_replicas(
    servers: Replicated, resolver: FakeResolver
):
    def train(rank: int) -> list[EpochBatch]:
        with Client(servers.target, patience=PATIENCE) as client:
            factory = client.triples_factory("world")
            stream = factory.epochs(SMALL, config_of(rank, 8), prefetch=1)
            return [batch for _ in range(3) for batch in stream]

    with ThreadPoolExecutor(8) as threads:
        batches = [batch for of_rank in threads.map(train, range(8)) for batch in of_rank]
    for epoch in range(3):
        assert_undisturbed(batches, epoch, SMALL)
    assert_equal_shares(servers, 3)


def test_eight_ranks_have_equal_shares_with_asyncio(servers: Replicated, resolver: FakeResolver):
    async def train(rank: int) -> list[EpochBatch]:
        async with aio.Client([servers.target], patience=PATIENCE) as client:
            factory = await client.triples_factory("world")
            stream = factory.epochs(SMALL, config_of(rank, 8), prefetch=1)
            return [batch for _ in range(3) async for batch in stream]

    async def main() -> list[EpochBatch]:
        async with asyncio.timeout(SECONDS):
            of_ranks = await asyncio.gather(*map(train, range(8)))
        return [batch for of_rank in of_ranks for batch in of_rank]

    batches = asyncio.run(main())
    for epoch in range(3):
        assert_undisturbed(batches, epoch, SMALL)
    assert_equal_shares(servers, 3)


def test_a_list_of_targets_is_spread_in_any_order(unharmed: Replicated):
    targets = [f"{host}:{unharmed.port}" for host in HOSTS]

    def first_target(rank: int) -> list[str]:
        with Client(targets[rank:] + targets[:rank]) as client:
            stream = client.triples_factory("world").epochs(SAMPLER, config_of(rank, 3))
            taken = iter(stream)
            next(taken)
            return [call.target for call in client._transport._open_calls()]

    assert [first_target(rank) for rank in range(3)] == [[target] for target in targets]


def test_the_nearest_replica_serves_all_while_it_is_there(servers: Replicated):
    """Rank 0, whose first replica would be another one."""
    nearest, *others = (f"{host}:{servers.port}" for host in HOSTS[::-1])
    with Client([nearest, *others], patience=PATIENCE, spread=False) as client:
        stream = client.triples_factory("world").epochs(SAMPLER, config_of(0, 1), prefetch=1)
        batches = [batch for _ in range(2) for batch in stream]
        assert [host for host, count in servers.negatives().items() if count] == [HOSTS[2]]
        taken = iter(stream)
        batches += islice(taken, 3)
        servers.by_host[HOSTS[2]].server.kill()
        batches += taken
    for epoch in range(3):
        assert_undisturbed(batches, epoch)


def test_a_new_replica_takes_its_share_once_streams_are_opened_again(
    tmp_path: Path, resolver: FakeResolver
):
    resolver.hosts = HOSTS[:2]
    options = (*QUIET, "--max-stream-seconds", "0.2")
    is_over = threading.Event()

    def train(rank: int) -> None:
        factory = client.triples_factory("world")
        while not is_over.is_set():
            for _ in factory.epochs(SMALL, config_of(rank, 3), prefetch=1):
                if is_over.is_set():
                    break

    with (
        replicated(tmp_path, *options, hosts=HOSTS[:2]) as servers,
        Client(servers.target, patience=PATIENCE) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        running = [threads.submit(train, rank) for rank in range(3)]
        try:
            wait_for(lambda: min(servers.negatives().values()) > 0, "streams at both")
            servers.start(HOSTS[2])
            resolver.hosts = HOSTS
            wait_for(lambda: servers.negatives()[HOSTS[2]] > 0, "a stream at the new one")
            before = servers.negatives()

            def share() -> float:
                drawn_since = {host: n - before[host] for host, n in servers.negatives().items()}
                total = sum(drawn_since.values())
                is_enough = total > 3 * NUM_TRIPLES * SMALL.num_negs_per_pos
                return drawn_since[HOSTS[2]] / total if is_enough else 0.0

            wait_for(lambda: 0.27 < share() < 0.4, "a third of what is drawn")
        finally:
            is_over.set()
        for rank in running:
            rank.result(SECONDS)


def test_a_drained_replica_loses_its_streams_without_an_error(
    servers: Replicated, resolver: FakeResolver
):
    with (
        Client(servers.target, patience=PATIENCE) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        factory = client.triples_factory("world")
        streams = [
            iter(factory.epochs(SAMPLER, config_of(rank, 3), prefetch=1)) for rank in range(3)
        ]
        batches = [next(stream) for stream in streams]
        resolver.hosts = HOSTS[::2]
        running = [threads.submit(list, stream) for stream in streams]
        assert servers.by_host[HOSTS[1]].server.terminate() == 0
        batches += [batch for future in running for batch in future.result(SECONDS)]
    assert_undisturbed(batches)


def test_a_killed_replica_is_left_and_tried_again_later(
    servers: Replicated, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
):
    """Its name still has its address."""
    with Client(servers.target, patience=PATIENCE) as client:
        factory = client.triples_factory("world")
        stream = factory.epochs(SAMPLER, config_of(1, 3), prefetch=1)
        taken = iter(stream)
        batches = [next(taken)]
        monkeypatch.setattr(replicas_module, "_FIRST_SECONDS", SECONDS)
        servers.by_host[HOSTS[1]].server.kill()
        batches += taken
        assert [batch.next_start for batch in batches] == [*range(96, NUM_TRIPLES, 96), NUM_TRIPLES]
        again = servers.start(HOSTS[1])
        # Epoch 3 of rank 1 begins at the second of three replicas again.
        lost = client._transport.replicas._losses
        assert lost.keys() == {f"{HOSTS[1]}:{servers.port}"}
        for _ in range(3):
            for _ in stream:
                pass
        assert not drawn(again)
        client._transport.replicas._losses = {
            address: replicas_module._Loss(loss.number, 0.0, loss.seconds)
            for address, loss in lost.items()
        }
        for _ in range(3):
            for _ in stream:
                pass
        wait_for(lambda: drawn(again) > 0, "a stream of the replica that is back")


def test_a_killed_replica_is_left_with_asyncio(servers: Replicated, resolver: FakeResolver):
    async def main() -> list[EpochBatch]:
        async with asyncio.timeout(SECONDS), aio.Client(servers.target) as client:
            factory = await client.triples_factory("world")
            streams = [
                aiter(factory.epochs(SAMPLER, config_of(rank, 3), prefetch=1)) for rank in range(3)
            ]
            batches = [await anext(stream) for stream in streams]
            await asyncio.to_thread(servers.by_host[HOSTS[1]].server.kill)
            for stream in streams:
                batches += [batch async for batch in stream]
            return batches

    assert_undisturbed(asyncio.run(main()))


def test_a_sampler_begins_at_the_replica_of_its_process(
    servers: Replicated, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
):
    positives = load("world").mapped_triples[:100]
    batches = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        before = servers.negatives()
        with Client(servers.target) as client:
            sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=7, seed=3)
            batches.append(sampler.sample(positives, 0).replaced)
        chosen = servers.by_host[HOSTS[rank]]
        wait_for(lambda chosen=chosen, was=before[HOSTS[rank]]: drawn(chosen) - was == 700, "it")  # type: ignore[misc]
    np.testing.assert_array_equal(batches[0], batches[1])
    np.testing.assert_array_equal(batches[0], batches[2])


def test_a_graph_is_published_on_all_replicas_of_a_name(tmp_path: Path, resolver: FakeResolver):
    triples = np.arange(300).reshape(100, 3) % [90, 7, 90]
    with replicated(tmp_path, *QUIET, "--allow-publish") as servers:
        with Client(servers.target) as client:
            client.publish("g", triples, num_entities=90, num_relations=7)
        for host in HOSTS:
            with Client(f"{host}:{servers.port}") as client:
                assert "g" in client.list_datasets()


def test_tls_checks_the_name_and_not_the_address(
    tmp_path: Path, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
):
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("NEGSERVE_CA_FILE", authority.ca)
    cert, key = authority.issue(NAME)
    options = (*QUIET, "--tls-cert", cert, "--tls-key", key)
    with replicated(tmp_path, *options, hosts=HOSTS[:2]) as servers:
        with Client(servers.target) as client:
            assert client.list_datasets() == ["world"]
            assert client.target in {f"{host}:{servers.port}" for host in HOSTS}
        addresses = [f"{host}:{servers.port}" for host in HOSTS[:2]]
        with Client(addresses, patience=0.5) as client, pytest.raises(UnavailableError):
            client.list_datasets()


def test_a_name_without_an_answer_keeps_its_replicas(unharmed: Replicated, resolver: FakeResolver):
    with Client(unharmed.target, timeout=5) as client:
        client.list_datasets()
        resolver.hosts = ()
        num_asked = resolver.num_asked
        assert client.list_datasets() == ["world"]
        assert resolver.num_asked > num_asked
    # To gRPC's own resolver, too, which says so or is still asking when patience ends.
    unknown = pytest.raises((UnavailableError, StalledError), match=NAME)
    with Client(unharmed.target, patience=0.1) as client, unknown:
        client.list_datasets()


def test_closing_the_client_ends_a_look_up(resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch):
    asked, goes_on = threading.Event(), threading.Event()

    def silent(*arguments: object, **options: object) -> list[object]:
        asked.set()
        goes_on.wait(SECONDS)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    client = Client(f"{NAME}:7733")
    with ThreadPoolExecutor(1) as threads:
        listing = threads.submit(client.list_datasets)
        assert asked.wait(SECONDS)
        client.close()
        with pytest.raises(Exception, match="the client was closed"):
            listing.result(4)  # before the look-up's own limit
        goes_on.set()


def test_a_running_stream_stays_where_it_is(unharmed: Replicated, resolver: FakeResolver):
    resolver.hosts = HOSTS[:2]
    with Client(unharmed.target) as client:
        stream = iter(client.triples_factory("world").epochs(SAMPLER, config_of(1, 2)))
        next(stream)
        resolver.hosts = HOSTS
        client.list_datasets()
        resolver.hosts = HOSTS[::2]
        client.list_datasets()
        list(islice(stream, 60))
        calls = client._transport._open_calls()
        assert [call.target for call in calls] == [f"{HOSTS[1]}:{unharmed.port}"]


class ConnectProxy(socketserver.ThreadingTCPServer):
    """A proxy that resolves every name to one host.

    :ivar asked: what it was asked to connect to
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connect)
        self.asked: list[str] = []


class _Connect(socketserver.StreamRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        _, asked, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(asked)
        port = int(asked.rpartition(":")[2])
        with socket.create_connection((HOSTS[0], port)) as beyond:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            answering = threading.Thread(target=copy, args=(beyond, self.connection))
            answering.start()
            copy(self.connection, beyond)
            answering.join()


def copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectProxy]:
    """The proxy of the environment."""
    for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ConnectProxy() as running:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{running.server_address[1]}")
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_proxy_of_the_environment_gets_the_name(
    unharmed: Replicated, resolver: FakeResolver, proxy: ConnectProxy
):
    with Client(unharmed.target) as client:
        assert client.list_datasets() == ["world"]
        assert client.target == unharmed.target
    assert proxy.asked == [unharmed.target]
    assert resolver.num_asked == 0


def test_addresses_of_a_name_without_a_proxy_are_reached_without_it(
    unharmed: Replicated,
    resolver: FakeResolver,
    proxy: ConnectProxy,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("no_proxy", "elsewhere, .test")
    with Client(unharmed.target) as client:
        assert client.list_datasets() == ["world"]
    assert proxy.asked == []
    assert resolver.num_asked > 0
