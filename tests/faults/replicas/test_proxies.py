"""Behind Envoy, nginx and haproxy: replicas and the proxy are lost, and no byte differs."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from negserve import Client, EpochConfig, NegserveError, PublishProgress, aio
from negserve._transport.transport import Transport
from tests.faults.conftest import BATCH_SIZE, SAMPLER, Servers
from tests.support.graphs import load
from tests.support.programs.proxies import NAMES, Proxy, http_proxy
from tests.support.programs.tcp_proxy import TcpProxy, tcp_proxy
from tests.support.server_process import ServerProcess

WORLD = load("world")
PATIENCE = 60.0
#: By which their connections are known from others.
_TIMEOUT_OF_EPOCHS = 21.0
_CONFIG = EpochConfig(batch_size=BATCH_SIZE)
_NOWHERE = "127.0.0.1:1"
#: Bytes, far more than what answers health checks.
_MUCH = 2_000_000


@dataclass
class Scene:
    """Two replicas behind a proxy, the second of which is absent until :meth:`open`.

    So whatever is under way by then comes from the first.
    """

    proxy: Proxy
    first: ServerProcess
    gate: TcpProxy
    second: ServerProcess

    def open(self) -> None:
        """Let the proxy reach the second replica."""
        self.gate.lead_to(self.second.target)


@contextmanager
def scene(
    name: str, first: ServerProcess, second: ServerProcess, folder: Path, timeout: int = 0
) -> Iterator[Scene]:
    with (
        tcp_proxy(_NOWHERE) as gate,
        http_proxy(name, [first.target, gate.target], folder, timeout=timeout) as proxy,
    ):
        yield Scene(proxy, first, gate, second)


@dataclass
class Said:
    """Errors that ended calls, as clients saw them.

    :ivar errors: with the transport of each
    """

    errors: list[tuple[Transport, str]]

    def __str__(self) -> str:
        return "\n".join(error for _, error in self.errors)

    def num_cut(self) -> int:
        """Count the calls that the proxy ended with its own error."""
        return str(self).count("a proxy on the way, ended the call")

    def first_of_epochs(self) -> list[str]:
        """Return the first error of each epoch."""
        first: dict[int, str] = {}
        for connection, error in self.errors:
            if connection.timeout == _TIMEOUT_OF_EPOCHS:
                first.setdefault(id(connection), error)
        return list(first.values())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    heard = Said([])
    translate = Transport.error_of

    def listening(self: Transport, error: grpc.RpcError, target: str) -> NegserveError:
        translated = translate(self, error, target)
        kind = translated.reason or type(translated).__name__
        heard.errors.append((self, f"{kind}: {translated}"))
        return translated

    monkeypatch.setattr(Transport, "error_of", listening)
    return heard


@pytest.fixture(scope="module")
def undisturbed(steady: ServerProcess) -> tuple[str, str]:
    """Digests of an epoch, and of other answers, over an undisturbed direct connection."""
    return read_epoch(steady.target, lambda: None), next(ask_all(steady.target))


#: Gives how many seconds a trainer works on a batch, by its number.
_Work = Callable[[int], float]


def no_work(_: int) -> float:
    return 0


def read_epoch(target: str, under_way: Callable[[], object], work: _Work = no_work) -> str:
    """Read an epoch, and return its digest.

    :param under_way: called when some batches have come
    """
    with Client(target, timeout=_TIMEOUT_OF_EPOCHS, patience=PATIENCE) as client:
        stream = client.triples_factory("world").epochs(SAMPLER, _CONFIG, prefetch=1, digest=True)
        for i, _ in enumerate(stream):
            if i == 3:
                under_way()
            time.sleep(work(i))
        assert stream.digest
        return stream.digest


def read_epoch_asynchronously(
    target: str, under_way: Callable[[], object], work: _Work = no_work
) -> str:
    """As :func:`read_epoch`."""

    async def read() -> str:
        async with aio.Client(target, timeout=_TIMEOUT_OF_EPOCHS, patience=PATIENCE) as client:
            factory = await client.triples_factory("world")
            stream = factory.epochs(SAMPLER, _CONFIG, prefetch=1, digest=True)
            i = 0
            async for _ in stream:
                if i == 3:
                    await asyncio.to_thread(under_way)
                await asyncio.sleep(work(i))
                i += 1
            assert stream.digest
            return stream.digest

    return asyncio.run(asyncio.wait_for(read(), 2 * PATIENCE))


def ask_all(target: str) -> Iterator[str]:
    """Call repeatedly, over one ``Sample`` stream and by all other RPCs; return the answers."""
    triples = WORLD.mapped_triples
    with Client(target, timeout=20, patience=PATIENCE) as client:
        factory = client.triples_factory("world")
        sampler = factory.open_sampler(num_negs_per_pos=500, filter_splits=("training",))
        while True:
            sha = hashlib.sha256(sampler.sample(triples[:3000], 99).rows().tobytes())
            sha.update(factory.contains(triples[::-1], ("training",)).tobytes())
            again = client.triples_factory("world")
            sha.update(repr((client.list_datasets(), again.relation_to_id)).encode())
            sha.update(again.relation_statistics.head_probability.tobytes())
            yield sha.hexdigest()


class Trainers:
    """Three trainers that use a proxy, and pause in the middle of their work until released."""

    def __init__(self, threads: ThreadPoolExecutor, target: str, work: _Work) -> None:
        self._under_way = threading.Semaphore(0)
        self._goes_on = threading.Event()
        self._epochs = [
            threads.submit(read, target, self._wait, work)
            for read in (read_epoch, read_epoch_asynchronously)
        ]
        self._asking = threads.submit(self._ask, target)

    def _wait(self) -> None:
        self._under_way.release()
        assert self._goes_on.wait(PATIENCE)

    def _ask(self, target: str) -> set[str]:
        answers = ask_all(target)
        found = {next(answers)}
        self._under_way.release()
        while not self._goes_on.is_set():
            found.add(next(answers))
        return found.union(itertools.islice(answers, 3))

    def await_all(self) -> None:
        """Wait until all are in the middle of their work."""
        for _ in range(3):
            assert self._under_way.acquire(timeout=PATIENCE), (*self._epochs, self._asking)

    def go_on(self) -> None:
        self._goes_on.set()

    def check(self, undisturbed: tuple[str, str]) -> None:
        """Wait for all, and compare their results."""
        epoch, answer = undisturbed
        assert [reading.result(PATIENCE) for reading in self._epochs] == [epoch] * 2
        assert self._asking.result(PATIENCE) == {answer}


@contextmanager
def trainers(target: str, work: _Work = no_work) -> Iterator[Trainers]:
    with ThreadPoolExecutor(3) as threads:
        started = Trainers(threads, target, work)
        try:
            yield started
        finally:
            started.go_on()


@pytest.mark.parametrize("name", NAMES)
def test_the_replica_that_streams_is_killed(
    name: str,
    servers: Servers,
    steady: ServerProcess,
    undisturbed: tuple[str, str],
    said: Said,
    tmp_path: Path,
):
    with scene(name, servers.start(), steady, tmp_path) as it, trainers(it.proxy.target) as work:
        work.await_all()
        assert it.gate.num_bytes == 0
        it.open()
        it.first.kill()
        work.go_on()
        work.check(undisturbed)
        assert it.gate.num_bytes > _MUCH
    assert said.num_cut() >= 2, said


@pytest.mark.parametrize("name", NAMES)
def test_the_replica_that_streams_drains(
    name: str,
    servers: Servers,
    steady: ServerProcess,
    undisturbed: tuple[str, str],
    said: Said,
    tmp_path: Path,
):
    first = servers.start("--drain-seconds", "10")

    def slowly(i: int) -> float:
        """Slowly, so that the server is done before the proxy has passed everything on."""
        return 0.05 if i < 30 else 0

    with scene(name, first, steady, tmp_path) as it, trainers(it.proxy.target, slowly) as work:
        work.await_all()
        it.open()
        said.errors.clear()
        with ThreadPoolExecutor(1) as threads:
            ending = threads.submit(first.terminate)
            work.go_on()
            work.check(undisturbed)
            assert ending.result(PATIENCE) == 0
        assert it.gate.num_bytes > _MUCH
    # Both epochs' streams ended between two messages, with the status that the server gave them.
    ends = said.first_of_epochs()
    assert len(ends) == 2, said
    assert all(end.startswith("DRAINING: ") for end in ends), said


def test_every_stream_is_longer_than_the_route_allows(
    steady: ServerProcess, undisturbed: tuple[str, str], said: Said, tmp_path: Path
):
    with (
        http_proxy("envoy", [steady.target], tmp_path, timeout=1) as proxy,
        trainers(proxy.target, lambda _: 0.03) as work,
    ):
        work.await_all()
        work.go_on()
        work.check(undisturbed)
    assert said.num_cut() >= 4, said


@pytest.mark.parametrize("name", NAMES)
def test_the_proxy_restarts(
    name: str,
    steady: ServerProcess,
    undisturbed: tuple[str, str],
    said: Said,
    tmp_path: Path,
):
    with (
        http_proxy(name, [steady.target], tmp_path) as proxy,
        trainers(proxy.target) as work,
    ):
        work.await_all()
        said.errors.clear()
        proxy.restart()
        work.go_on()
        work.check(undisturbed)
    assert len(said.first_of_epochs()) == 2, said


def test_a_graph_is_published_through_proxies_although_the_replica_is_killed(
    servers: Servers, tmp_path: Path
):
    """An upload that is cut starts again, at the replica that the proxy then leads to."""
    rows = np.arange(1_000_000)
    triples = np.stack([rows % 20_000, rows // 20_000, rows * 7 % 20_000], 1)
    first, second = (servers.start("--allow-publish") for _ in range(2))
    is_killed = False

    with (
        scene("envoy", first, second, tmp_path) as it,
        Client(it.proxy.target, patience=PATIENCE) as client,
    ):

        def kill(progress: PublishProgress) -> None:
            nonlocal is_killed
            if progress.num_received > 300_000 and not is_killed:
                is_killed = True
                it.open()
                first.kill()

        published = client.publish("big", triples, num_relations=50, on_progress=kill)
        assert is_killed
        assert published.num_triples == len(triples)
    with Client(second.target) as client:
        assert client.triples_factory("big").fingerprint == published.fingerprint
