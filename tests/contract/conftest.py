"""Each contract case runs on every graph: in process, and over a real server with both clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from negserve import Client, aio
from negserve.sampling import TriplesFactory
from negserve_server import graph
from tests.support.event_loop import BlockingFactory, EventLoop
from tests.support.graphs import GRAPHS, load
from tests.support.server_process import ServerProcess


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
        triples = torch.from_numpy(self.graph.mapped_triples.copy())
        return triples[(torch.arange(count) * 7919) % len(triples)]


@pytest.fixture(params=["in-process", "remote", "aio"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the sampler computes, and through which client it is reached."""
    return str(request.param)


@pytest.fixture(scope="session")
def event_loop_client(server: ServerProcess) -> Iterator[tuple[EventLoop, aio.Client]]:
    """A client for asyncio of the shared server, and the loop that it lives in."""
    loop = EventLoop()
    client = aio.Client(server.target)
    yield loop, client
    loop.run(client.close())
    loop.close()


def _place(name: str, where: str, request: pytest.FixtureRequest) -> Place:
    loaded = load(name)
    if where == "in-process":
        return Place(loaded, loaded)
    if where == "aio":
        loop, aio_client = request.getfixturevalue("event_loop_client")
        return Place(loaded, BlockingFactory(loop, loop.run(aio_client.triples_factory(name))))
    client: Client = request.getfixturevalue("client")
    return Place(loaded, client.triples_factory(name))


@pytest.fixture(params=GRAPHS)
def place(request: pytest.FixtureRequest, where: str) -> Place:
    """Every graph."""
    return _place(request.param, where, request)


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


ALL_SPLITS: Any = ("training", "validation", "testing")
