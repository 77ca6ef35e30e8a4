"""Workers of one server have the same datasets: published ones, and those of administrators."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from negserve import Client, LimitExceededError, PublishProgress, UnknownDatasetError
from negserve_server.graph import TriplesFactory
from tests.support.repositories import (
    ADMIN,
    Administrator,
    RepositoryOnDisk,
    graph,
    write_tokens,
)
from tests.support.server_process import ServerProcess, server_process
from tests.support.workers import connections, wait_for, worker_pids

SIZES = {"num_entities": 20_000, "num_relations": 50}
#: Several seconds of upload are not needed: some chunks are.
ROWS = np.arange(600_000)
LARGE = np.stack([ROWS % 20_000, ROWS // 20_000 % 50, 7 * ROWS % 20_000], 1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def spread(server: ServerProcess, stack: ExitStack) -> list[Client]:
    """Open clients until each worker has two or more."""
    clients: list[Client] = []
    while not clients or min(connections(server).values()) < 2 or len(connections(server)) < 2:
        assert len(clients) < 40, f"connections do not spread: {connections(server)}"
        clients.append(stack.enter_context(Client(server.target, patience=60)))
        clients[-1].server_info()
    return clients


def have(clients: list[Client], name: str, factory: TriplesFactory) -> None:
    """Check that all serve a graph, with its bytes."""
    positives = factory.mapped_triples[:50]
    expected = factory.open_sampler(num_negs_per_pos=4, filter_splits=("training",))
    for client in clients:
        assert name in client.list_datasets()
        served = client.triples_factory(name).open_sampler(
            num_negs_per_pos=4, filter_splits=("training",)
        )
        drawn = served.sample(positives, 3).replaced
        np.testing.assert_array_equal(drawn, expected.sample(positives, 3).replaced)


def test_a_published_graph_is_in_all_workers_and_survives_each(log: Path, tmp_path: Path):
    folder = tmp_path / "published"
    arguments = ("--workers", "2", "--allow-publish", "--publish-dir", str(folder))
    with server_process(*arguments, log=log) as server, ExitStack() as stack:
        clients = spread(server, stack)
        for number, client in enumerate(clients[:4]):
            client.publish(f"g{number}", graph(number))
            have(clients, f"g{number}", graph(number))  # at once
        for pid in worker_pids(server):
            os.kill(pid, signal.SIGKILL)
            wait_for(
                lambda pid=pid: len(worker_pids(server)) == 2 and pid not in worker_pids(server),
                "the start of another worker",
            )
            more = [stack.enter_context(Client(server.target, patience=60)) for _ in range(4)]
            have([*clients, *more], "g0", graph(0))
        clients[0].publish("later", graph(9))
        have(clients, "later", graph(9))
        assert server.terminate() == 0
    with server_process(*arguments, log=log) as server, ExitStack() as stack:
        have(spread(server, stack), "later", graph(9))
    assert "Traceback" not in log.read_text()


def test_without_a_folder_it_is_in_a_temporary_one(log: Path, tmp_path: Path):
    arguments = ("--workers", "2", "--allow-publish")
    options = {"env": {"TMPDIR": str(tmp_path)}, "log": log}
    with server_process(*arguments, **options) as server, ExitStack() as stack:  # type: ignore[arg-type]
        clients = spread(server, stack)
        clients[0].publish("g", graph(1))
        have(clients, "g", graph(1))
        server.kill()
    assert list(tmp_path.glob("negserve-workers-*"))
    with server_process(*arguments, **options) as server:  # type: ignore[arg-type]
        assert len(list(tmp_path.glob("negserve-workers-*"))) == 1, "what was left is removed"
        assert server.terminate() == 0
    assert not list(tmp_path.glob("negserve-*"))


def test_many_ranks_cost_one_upload(log: Path):
    with (
        server_process("--workers", "2", "--allow-publish", log=log) as server,
        ExitStack() as stack,
        ThreadPoolExecutor(16) as threads,
    ):
        clients = spread(server, stack)
        found = list(threads.map(lambda client: client.publish("big", LARGE, **SIZES), clients))
        assert len({each.fingerprint for each in found}) == 1
        assert log.read_text().count(": published big: ") == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_during_a_publish(log: Path, victim: int):
    """It is worker 1 that takes graphs; the other one passes them on."""
    with (
        server_process("--workers", "2", "--allow-publish", log=log) as server,
        ExitStack() as stack,
    ):
        clients = spread(server, stack)
        killed = []

        def kill(progress: PublishProgress) -> None:
            if progress.num_received >= 200_000 and not killed:
                killed.append(worker_pids(server)[victim])
                os.kill(killed[0], signal.SIGKILL)

        for number, client in enumerate(clients[:4]):
            killed.clear()
            name = f"big{number}"
            factory = client.publish(name, LARGE, **SIZES, on_progress=kill)
            assert killed
            wait_for(lambda: len(worker_pids(server)) == 2, "the start of another worker")
            for each in clients:
                assert each.triples_factory(name).fingerprint == factory.fingerprint


def test_the_room_is_that_of_the_whole_server(log: Path):
    options = ("--allow-publish", "--max-publish-graphs", "2", "--publish-keep-seconds")
    with server_process("--workers", "2", *options, "60", log=log) as server, ExitStack() as stack:
        clients = spread(server, stack)
        clients[0].publish("a", graph(1))
        clients[1].publish("b", graph(2))
        for client in clients:
            with pytest.raises(LimitExceededError, match="--max-publish-graphs"):
                client.publish("c", graph(3))
    with server_process("--workers", "2", *options, "0", log=log) as server, ExitStack() as stack:
        clients = spread(server, stack)
        held = clients[0].publish("a", graph(1))
        samplers = [each.triples_factory("a").open_sampler() for each in clients]
        for sampler in samplers:
            sampler.sample(graph(1).mapped_triples[:5], 0)
        clients[1].publish("b", graph(2))
        wait_for(lambda: can_publish(clients[2], "c", 3), "that b is idle")
        for client in clients:  # a is in use, b is not
            assert set(client.list_datasets()) == {"world", "a", "c"}
            with pytest.raises(UnknownDatasetError):
                client.triples_factory("b")
        assert held.fingerprint == graph(1).fingerprint


def can_publish(client: Client, name: str, seed: int) -> bool:
    try:
        client.publish(name, graph(seed))
    except LimitExceededError:
        return False
    return True


@pytest.fixture
def administered(tmp_path: Path, log: Path) -> Iterator[tuple[Administrator, RepositoryOnDisk]]:
    repository = RepositoryOnDisk(tmp_path / "graphs")
    repository.path.mkdir()
    repository.put("g", graph(1))
    tokens = tmp_path / "admin-tokens"
    tokens.write_text(ADMIN)
    with server_process(
        "--workers", "2", "--repository", str(repository.path), "--token-file",
        str(write_tokens(tmp_path, anybody=True)), "--allow-publish", log=log,
    ) as server:  # fmt: skip
        yield Administrator(server, tokens, log), repository


def test_an_administrator_reaches_all_workers(
    administered: tuple[Administrator, RepositoryOnDisk],
):
    administrator, repository = administered
    server = administrator.server
    with ExitStack() as stack:
        clients = spread(server, stack)
        samplers = [client.triples_factory("g").open_sampler() for client in clients]
        for sampler in samplers:
            sampler.sample(graph(1).mapped_triples[:5], 0)
        repository.put("h", graph(2))
        administrator.json("load", "h")
        have(clients, "h", graph(2))
        repository.put("g", graph(3))
        (change,) = [each for each in administrator.json("reload") if each["name"] == "g"]
        assert change["previous_fingerprint"] == graph(1).fingerprint
        have(clients, "g", graph(3))
        clients[0].publish("p", graph(4))
        # All of these calls see all streams, whichever worker they reach.
        for _ in range(6):
            listed = administrator.json("list")
            assert [(each["name"], each["is_current"], each["num_streams"]) for each in listed] == [
                ("h", True, 0), ("g", True, 0), ("p", True, 0), ("g", False, len(samplers)),
            ]  # fmt: skip
        administrator.json("unload", "h")
        administrator.json("remove", "p")
        assert {tuple(client.list_datasets()) for client in clients} == {("g",)}
        status, _, errors = administrator.run("unload", "none")
        assert (status, "there is no dataset 'none'" in errors) == (1, True), errors
        # The old version goes with its last stream.
        positives = graph(1).mapped_triples[:5]
        expected = graph(1).open_sampler().sample(positives, 9).replaced
        for sampler in samplers:
            assert np.array_equal(sampler.sample(positives, 9).replaced, expected)


def test_a_worker_that_starts_later_has_what_the_others_have(
    administered: tuple[Administrator, RepositoryOnDisk],
):
    """Also what is unloaded or replaced on the disk, as the supervisor has it mapped."""
    administrator, repository = administered
    server = administrator.server
    repository.put("h", graph(2))
    administrator.json("load", "h")
    administrator.json("unload", "g")
    repository.put("h", graph(5))  # nobody has asked for it
    pids = worker_pids(server)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: len(worker_pids(server)) == 2 and not set(pids) & set(worker_pids(server)),
        "the start of other workers",
    )
    with ExitStack() as stack:
        clients = spread(server, stack)
        assert {tuple(client.list_datasets()) for client in clients} == {("h",)}
        have(clients, "h", graph(2))


def test_a_worker_that_is_killed_during_a_reload(
    administered: tuple[Administrator, RepositoryOnDisk],
):
    administrator, repository = administered
    server = administrator.server
    for seed in range(2, 22):
        repository.put(f"g{seed}", graph(seed))
    victim = worker_pids(server)[1]
    os.kill(victim, signal.SIGSTOP)  # so it can't follow, nor answer
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(8))
        # Some of these connections are that worker's.
        ends = [threads.submit(administrator.run, "reload") for _ in range(8)]
        wait_for(lambda: "dataset g9 loaded" in administrator.log.read_text(), "a reload")
        os.kill(victim, signal.SIGKILL)
        assert {end.result(60)[0] for end in ends} <= {0, 1}
        wait_for(
            lambda: len(worker_pids(server)) == 2 and victim not in worker_pids(server),
            "the start of another worker",
        )
        for client in spread(server, stack):
            assert len(client.list_datasets()) == 21
