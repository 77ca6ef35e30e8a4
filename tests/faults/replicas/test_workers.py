"""A server of several processes is one server: equal bytes, and no loss when one of them dies."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from negserve import Client, EpochConfig, SamplerConfig, UnavailableError, aio
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.publishing.publish_folder import PublishFolder
from tests.faults.conftest import (
    NUM_TRIPLES,
    SAMPLER,
    expected_digest,
    open_stream,
    pieces_of,
)
from tests.support.epochs import union_digest
from tests.support.graphs import load
from tests.support.preloaded import PIPE, PreloadedProcess
from tests.support.server_process import ServerProcess, server_process
from tests.support.workers import (
    connections,
    has_ended,
    private_bytes,
    thread_names,
    wait_for,
    worker_pids,
)

#: Most clients until each worker has one: with less luck than one in a billion.
MOST_CLIENTS = 30
WORLD = load("world")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def server(log: Path) -> Iterator[ServerProcess]:
    with server_process("--workers", "2", "--drain-seconds", "3", log=log) as running:
        yield running


def clients_on_all(
    server: ServerProcess, stack: ExitStack, patience: float | None = None
) -> list[Client]:
    """Open clients until each worker has some."""
    clients: list[Client] = []
    while len(clients) < 4 or not all(connections(server).values()):
        assert len(clients) < MOST_CLIENTS, f"connections do not spread: {connections(server)}"
        client = stack.enter_context(Client(server.target, patience=patience))
        client.server_info()
        clients.append(client)
    return clients


def test_streams_of_one_client_are_spread_over_the_workers(server: ServerProcess):
    with Client(server.target) as client:
        factory = client.triples_factory("world")
        samplers = [factory.open_sampler(num_negs_per_pos=5) for _ in range(2)]
        batches = [each.sample(WORLD.mapped_triples, 7) for each in samplers]
        wait_for(lambda: [*connections(server).values()] == [1, 1], "a connection to each worker")
        more = [factory.open_sampler(num_negs_per_pos=5) for _ in range(2)]
        batches += [each.sample(WORLD.mapped_triples, 7) for each in more]
        stream = factory.epochs(SamplerConfig(), EpochConfig(batch_size=512))
        assert len(list(stream)) == -(-NUM_TRIPLES // 512)
        assert [*connections(server).values()] == [1, 1]
    for batch in batches:
        np.testing.assert_array_equal(batch.replaced, batches[0].replaced)


def test_tasks_of_one_client_are_spread_over_the_workers(server: ServerProcess):
    async def draw() -> None:
        async with aio.Client(server.target) as client:
            factory = await client.triples_factory("world")
            samplers = [await factory.open_sampler(num_negs_per_pos=5) for _ in range(3)]
            for each in samplers:
                await each.sample(WORLD.mapped_triples, 7)
            await asyncio.to_thread(
                wait_for,
                lambda: [*connections(server).values()] == [1, 1],
                "a connection to each worker",
            )

    asyncio.run(draw())


def test_streams_outlive_the_worker_that_one_of_them_is_on(server: ServerProcess):
    expected = WORLD.open_sampler(num_negs_per_pos=5).sample(WORLD.mapped_triples, 7)
    with Client(server.target) as client:
        factory = client.triples_factory("world")
        samplers = [factory.open_sampler(num_negs_per_pos=5) for _ in range(2)]
        for pid in worker_pids(server):
            for each in samplers:
                batch = each.sample(WORLD.mapped_triples, 7)
                np.testing.assert_array_equal(batch.replaced, expected.replaced)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: has_ended(pid), "its end")  # type: ignore[misc]


def test_every_worker_answers_with_the_same_bytes(server: ServerProcess):
    expected = WORLD.open_sampler(num_negs_per_pos=5).sample(WORLD.mapped_triples, 7)
    with ExitStack() as stack:
        clients = clients_on_all(server, stack)
        assert len(worker_pids(server)) == 2
        for client in clients:
            assert client.list_datasets() == ["world"]
            drawn = client.triples_factory("world").open_sampler(num_negs_per_pos=5)
            batch = drawn.sample(WORLD.mapped_triples, 7)
            np.testing.assert_array_equal(batch.replaced, expected.replaced)


def test_epochs_survive_the_death_of_a_worker(server: ServerProcess, log: Path):
    before = worker_pids(server)
    with ExitStack() as stack:
        clients = clients_on_all(server, stack)
        streams = [
            iter(open_stream(client, rank, len(clients))) for rank, client in enumerate(clients)
        ]
        batches = [next(stream) for stream in streams]
        victim = before[0]
        assert connections(server)[victim] > 0
        os.kill(victim, signal.SIGKILL)
        with ThreadPoolExecutor(len(streams)) as threads:
            for rest in threads.map(list, streams):
                batches += rest
    assert union_digest(pieces_of(batches), NUM_TRIPLES) == expected_digest(SAMPLER)
    wait_for(lambda: len(worker_pids(server)) == 2, "the start of another worker")
    assert victim not in worker_pids(server)
    assert before[1] in worker_pids(server)
    assert re.search(rf"worker 1 \(process {victim}\) was killed by SIGKILL", log.read_text())
    with ExitStack() as stack:
        clients_on_all(server, stack)


def test_all_workers_drain_and_nothing_is_left(server: ServerProcess, log: Path):
    pids = worker_pids(server)
    with ExitStack() as stack:
        clients = clients_on_all(server, stack, patience=1)
        samplers = [client.triples_factory("world").open_sampler() for client in clients]
        assert server.terminate() == 0
        with pytest.raises(UnavailableError):
            samplers[0].sample(WORLD.mapped_triples, 0)
        assert all(map(has_ended, pids))
    text = log.read_text()
    drained = re.findall(r"worker (\d): .*draining: (\d+) open streams", text)
    assert {number for number, _ in drained} == {"1", "2"}
    assert all(int(count) > 0 for _, count in drained)
    assert len(re.findall(r"worker \d: .*stopped", text)) == 2
    assert "ERROR" not in text


def test_workers_end_with_their_supervisor(server: ServerProcess):
    pids = worker_pids(server)
    assert len(pids) == 2
    server.kill()
    wait_for(lambda: all(map(has_ended, pids)), "the end of the workers")
    with Client(server.target, timeout=1, patience=1) as client, pytest.raises(UnavailableError):
        client.list_datasets()


def refused(*options: str, listen: str = "127.0.0.1:0") -> str:
    """Return what a server says that does not start."""
    process = PreloadedProcess(
        ["-m", "negserve_server.cli", "serve", "--listen", listen, *options],
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        said, error = process.communicate(60)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 1
    assert not said
    assert error is not None
    return error


@pytest.mark.parametrize(("first", "second"), [("2", "2"), ("2", "1"), ("1", "2")])
def test_two_servers_never_share_a_port(first: str, second: str):
    with server_process("--workers", first, "--log-level", "error") as server:
        error = refused("--workers", second, listen=server.target)
        port = server.target.rpartition(":")[2]
        assert f"another process has port {port}" in error
        with Client(server.target) as client:
            assert client.list_datasets() == ["world"]


def test_a_port_of_ended_connections_can_be_had_again():
    with server_process("--workers", "2") as server, ExitStack() as stack:
        clients_on_all(server, stack)
        assert server.terminate() == 0  # ends the connections, which keeps their port for a while
        with (
            server_process("--workers", "2", listen=(server.target,)) as again,
            Client(again.target) as client,
        ):
            assert client.list_datasets() == ["world"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-streams", "1"), r"--max-streams is 1, which 2 workers share; give at least 2"),
        (("--max-table-bytes", "1MiB"), r"--max-table-bytes is 1048576, .* give at least 2097152"),
    ],
)
def test_what_workers_can_not_share_is_refused(options: tuple[str, ...], said: str):
    assert re.search(said, refused("--workers", "2", *options))


def test_a_unix_socket_is_refused(tmp_path: Path):
    error = refused("--workers", "2", listen=f"unix:{tmp_path}/socket")
    assert "only one process can listen on a unix socket" in error
    assert "--workers 1" in error


def test_a_published_graph_of_the_name_of_another_ends_the_start(tmp_path: Path):
    folder = PublishFolder(tmp_path)
    folder.save("world", TriplesFactory({"training": [[0, 0, 1]]}))
    folder.close()
    error = refused("--workers", "2", "--publish-dir", str(tmp_path))
    assert re.search(r"^Error: .*'world' was published with fingerprint", error, re.MULTILINE)


def test_sighup_reaches_every_worker(tmp_path: Path, log: Path):
    level = tmp_path / "level"
    level.write_text("info")
    with server_process("--workers", "2", "--log-level", str(level), log=log) as server:
        server.process.send_signal(signal.SIGHUP)
        wait_for(
            lambda: len(re.findall(r"worker \d: .*SIGHUP: read again", log.read_text())) == 2,
            "a reload by both workers",
        )
        # A worker that is started later has what its supervisor read again.
        level.write_text("error")
        server.process.send_signal(signal.SIGHUP)
        pid = worker_pids(server)[0]
        wait_for(lambda: log.read_text().count("SIGHUP") >= 3, "a reload")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(worker_pids(server)) == 2, "the start of another worker")
        with ExitStack() as stack:
            clients_on_all(server, stack)
        assert server.terminate() == 0
    assert "draining" not in log.read_text()


def test_a_repository_is_reloaded_by_every_worker(tmp_path: Path, log: Path):
    repository = tmp_path / "repository"
    repository.mkdir()
    arguments = ("--workers", "2", "--repository", str(repository), "--dataset", "world")
    with server_process(*arguments, log=log) as server, ExitStack() as stack:
        clients = clients_on_all(server, stack)
        write_snapshot(WORLD.parts, repository / "copy", made={})
        server.process.send_signal(signal.SIGHUP)
        for client in clients:
            wait_for(lambda client=client: "copy" in client.list_datasets(), "the dataset copy")
            copy = client.triples_factory("copy")
            assert copy.fingerprint == WORLD.fingerprint
        assert server.terminate() == 0


def text_graph(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(3)
    for split, count in (("train", 200_000), ("valid", 1_000), ("test", 1_000)):
        heads, tails = rng.integers(0, 20_000, (2, count))
        relations = rng.integers(0, 50, count)
        rows = zip(heads, relations, tails, strict=True)
        (folder / f"{split}.txt").write_text("".join(f"e{h}\tr{r}\te{t}\n" for h, r, t in rows))
    return folder


def test_a_graph_of_text_is_mapped_by_all_and_leaves_nothing(tmp_path: Path, log: Path):
    graph = text_graph(tmp_path / "graph")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with server_process(
        "--workers",
        "2",
        "--dataset",
        f"text={graph}",
        "--dataset",
        "world",
        env={"TMPDIR": str(temporary)},
        log=log,
    ) as server:
        assert not list(temporary.iterdir())  # it stays mapped without a name
        assert not any("polars-" in name and name[-1:].isdigit()
                       for name in thread_names(server.process.pid))  # fmt: skip
        with ExitStack() as stack:
            clients = clients_on_all(server, stack)
            fingerprints = {client.triples_factory("text").fingerprint for client in clients}
            assert len(fingerprints) == 1
            for client in clients:
                factory = client.triples_factory("text")
                assert len(factory.entity_to_id) == factory.num_entities
                sampler = factory.open_sampler(num_negs_per_pos=64, filter_splits=("training",))
                sampler.sample(np.zeros((128, 3), dtype=np.int64), 0)
            for pid in worker_pids(server):
                assert private_bytes(pid) < 120 * 2**20
        assert server.terminate() == 0
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_start_that_is_ended_leaves_nothing(tmp_path: Path, number: int, code: int):
    graph = text_graph(tmp_path / "graph")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # A fresh process: what a start leaves behind is asked of one that begins with nothing.
    process = subprocess.Popen(
        [sys.executable, "-m", "negserve_server.cli", "serve", "--workers", "2",
         "--listen", "127.0.0.1:0", "--dataset", f"text={graph}"],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    try:
        wait_for(lambda: bool(list(temporary.iterdir())), "the reading of the graph")
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == code
    assert not said
    assert not list(temporary.iterdir())


def test_the_cache_serves_workers(tmp_path: Path, log: Path):
    graph = text_graph(tmp_path / "graph")
    cache = tmp_path / "cache"
    options = ("--workers", "2", "--dataset", f"text={graph}", "--cache-dir", str(cache))
    for expected in ("read, and kept", "not read again, mapped"):
        with server_process(*options, log=log) as server, Client(server.target) as client:
            assert client.list_datasets() == ["text"]
        assert expected in log.read_text()
    assert len(list(cache.iterdir())) == 1  # the temporary folder is gone


def test_a_graph_that_can_not_be_read_is_named(tmp_path: Path):
    graph = tmp_path / "graph.tsv"
    graph.write_text("one\ttwo\n")
    error = refused("--workers", "2", "--dataset", f"text={graph}")
    assert re.search(rf"^Error: .*{graph}", error, re.MULTILINE)
