"""Each contract case runs on every graph, in process and over a real server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from negserve import Client
from negserve.sampling import TriplesFactory
from negserve_server import graph
from tests.support.graphs import GRAPHS, load


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


@pytest.fixture(params=["in-process", "remote"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the sampler computes."""
    return str(request.param)


def _place(name: str, where: str, request: pytest.FixtureRequest) -> Place:
    loaded = load(name)
    if where == "in-process":
        return Place(loaded, loaded)
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
