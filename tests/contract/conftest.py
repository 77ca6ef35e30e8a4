"""Runs each contract case on every graph: in process, over a real server with both clients, and
in process on the server's snapshot, mapped or downloaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from negserve import Client, aio
from negserve.sampling import TriplesFactory
from negserve_server import graph
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.contract.cases import CASES
from tests.support.children.lying_server import lying_server, setting
from tests.support.event_loop import BlockingFactory, EventLoop
from tests.support.graphs import GRAPHS, load, triples_of
from tests.support.pairwise import pairwise
from tests.support.server_process import server_process


@dataclass(frozen=True)
class Place:
    """A graph, and the factory through which samplers reach it.

    :ivar graph: the graph itself, the oracle of the tests
    :ivar factory: the same graph in process, or over a real server
    """

    graph: graph.TriplesFactory
    factory: TriplesFactory

    def positives(self, count: int) -> torch.Tensor:
        """Take training triples, spread over all of them, repeated if there are too few."""
        triples = triples_of(self.graph)
        return torch.from_numpy(triples[(np.arange(count) * 7919) % len(triples)])


WAYS = ("in-process", "remote", "aio", "mapped", "pulled")


@dataclass(frozen=True)
class SnapshotServers:
    """A server of the snapshots of all graphs, and a folder for copies of them.

    :ivar near: a client that can map the server's folder
    :ivar far: a client that can't: it is told another path, as if on another machine
    :ivar folder: of the snapshots, by name
    """

    near: Client
    far: Client
    folder: Path


@pytest.fixture(scope="session")
def snapshot_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real server of snapshots, which clients may have: its target, and their folder."""
    folder = tmp_path_factory.mktemp("snapshots")
    for name in GRAPHS:
        write_snapshot(load(name).parts, folder / name, made={})
    with server_process("--repository", str(folder), "--allow-pull") as server:
        yield server.target, folder


# Not for the session, nor is the event loop below: they keep gRPC busy in this process, which tests
# of other modules fork.
@pytest.fixture(scope="module")
def snapshots(snapshot_server: tuple[str, Path]) -> Iterator[SnapshotServers]:
    """That server, and one that tells another folder."""
    target, folder = snapshot_server
    with (
        lying_server(target) as elsewhere,
        Client(target) as near,
        Client(elsewhere.target) as far,
    ):
        elsewhere.lies["GetSnapshot"] = setting("manifest.folder", str(folder / "elsewhere"))
        yield SnapshotServers(near, far, folder)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of downloaded snapshots."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=WAYS)
def where(request: pytest.FixtureRequest) -> str:
    """Where the sampler computes, and which client reaches it."""
    return str(request.param)


@pytest.fixture(scope="module")
def event_loop() -> Iterator[EventLoop]:
    """An event loop for the asyncio client."""
    loop = EventLoop()
    yield loop
    loop.close()


def served(client: Client, where: str, name: str, request: pytest.FixtureRequest) -> TriplesFactory:
    """Return a dataset of a server, through one of the clients, or computed here."""
    if where in {"mapped", "pulled"}:
        cache: Path = request.getfixturevalue("cache_dir")
        return client.triples_factory(name, compute="client", cache_dir=cache)
    if where == "remote":
        return client.triples_factory(name)
    loop: EventLoop = request.getfixturevalue("event_loop")
    awaited = aio.Client(client.target)
    request.addfinalizer(lambda: loop.run(awaited.close()))
    return BlockingFactory(loop, loop.run(awaited.triples_factory(name)))


def _place(name: str, where: str, request: pytest.FixtureRequest) -> Place:
    loaded = load(name)
    if where == "in-process":
        return Place(loaded, loaded)
    if where in {"mapped", "pulled"}:
        servers: SnapshotServers = request.getfixturevalue("snapshots")
        client = servers.near if where == "mapped" else servers.far
    else:
        client = request.getfixturevalue("client")
    return Place(loaded, served(client, where, name, request))


@pytest.fixture
def place(graph_name: str, where: str, request: pytest.FixtureRequest) -> Place:
    """A graph and a way that ``on_graphs`` chose."""
    return _place(graph_name, where, request)


@pytest.fixture(params=GRAPHS)
def remote_place(request: pytest.FixtureRequest) -> Place:
    """Every graph, over a real server only."""
    return _place(request.param, "remote", request)


@pytest.fixture
def world(request: pytest.FixtureRequest, where: str) -> Place:
    """The embedded graph."""
    return _place("world", where, request)


@pytest.fixture
def remote_world(request: pytest.FixtureRequest) -> Place:
    """The embedded graph, over a real server only."""
    return _place("world", "remote", request)


@pytest.fixture
def codex(request: pytest.FixtureRequest, where: str) -> Place:
    """CoDEx-S, which has hubs."""
    return _place("codex-s", where, request)


def on_graphs(
    *, ways: tuple[str, ...] = WAYS, together: tuple[str, ...] = (), **parameters: Collection[Any]
) -> pytest.MarkDecorator:
    """Run a test on every graph and in every way, pairwise with values of its parameters.

    Cases take turns: that every case draws the same bytes on every graph and in every way is a
    test of its own, which crosses them, and so do tests of the server for the graphs.

    :param parameters: values by name; of ``name``, names of ``CASES``
    :param together: names of parameters that are crossed instead, all cases among them
    """

    def allowed(row: dict[str, Any]) -> bool:
        # Both clients share all that depends on the graph: for one of them one graph is enough. So
        # do a snapshot and its copy.
        if row["where"] in {"aio", "pulled"} and row["graph_name"] != "world":
            return False
        return "name" not in row or CASES[row["name"]].fits(row["graph_name"])

    names = parameters.pop("name", ()) if not together else ()
    everything = {"graph_name": GRAPHS, "where": ways, **parameters}
    rows = pairwise(everything, allowed=allowed, together=together)
    if names:
        everything["name"] = names
        rows = _in_turn(rows, list(names))
    ids = ["-".join(map(_label, row)) for row in rows]
    return pytest.mark.parametrize(tuple(everything), rows, ids=ids)


def _in_turn(rows: list[Any], names: list[str]) -> list[Any]:
    """Give each row a case that fits its graph, which is the first; repeat rows for all cases."""
    turns, given = deque(names), list[Any]()
    missing = set(names)
    while missing or len(given) < len(rows):
        row = rows[len(given) % len(rows)]
        name = next(each for each in turns if CASES[each].fits(row[0]))
        turns.remove(name)
        turns.append(name)
        missing.discard(name)
        given.append((*row, name))
    return list(dict.fromkeys(given))


def _label(value: Any) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


ALL_SPLITS: Any = ("training", "validation", "testing")
