"""Triples with swapped columns cause a warning, correct ones don't."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pykeen.datasets import Nations

from negserve import (
    Client,
    InvalidRequestError,
    NegserveWarning,
    RemoteTriplesFactory,
    SwappedColumnsWarning,
    aio,
)
from negserve._graph.mapped_graph import MappedGraph
from negserve_server.graph import TriplesFactory
from tests.support.graphs import GRAPHS, graph_path, load
from tests.support.server_process import server_process

ORDERS = {"head, tail, relation": [0, 2, 1], "relation, head, tail": [1, 0, 2]}


@pytest.fixture(scope="module")
def publisher() -> Iterator[Client]:
    with (
        server_process("--allow-publish", "--threads", "1") as server,
        Client(server.target) as client,
    ):
        yield client


def graph(name: str) -> TriplesFactory:
    return load(name) if name in GRAPHS else TriplesFactory.from_path(graph_path(name))


@pytest.mark.parametrize("name", [*GRAPHS, "wn18rr"])
def test_real_graphs(name: str):
    for triples in graph(name).splits.values():
        assert MappedGraph.of(triples).doubt is None
        assert MappedGraph.of(triples[:, [2, 1, 0]]).doubt is None  # inverse triples
        for order in ORDERS.values():
            assert MappedGraph.of(triples[:, order]).doubt is not None


def test_more_relations_than_entities_are_no_mistake():
    """Nations has 14 entities and 55 relations."""
    assert MappedGraph.of(Nations().training.mapped_triples).doubt is None


@pytest.mark.parametrize("order", ORDERS)
def test_publishing_warns_at_the_callers_line(publisher: Client, order: str):
    triples = load("umls").mapped_triples[:, ORDERS[order]]
    with pytest.warns(SwappedColumnsWarning, match="head, relation, tail") as caught:
        publisher.publish(order[:4], torch.from_numpy(triples.copy()))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert issubclass(SwappedColumnsWarning, NegserveWarning)

    async def publish() -> None:
        async with aio.Client(publisher.target) as client:
            await client.publish(order[:4], triples)

    with pytest.warns(SwappedColumnsWarning) as caught:
        asyncio.run(publish())
    assert caught[0].filename == __file__


def test_a_warning_raised_as_an_error_sends_nothing(publisher: Client):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SwappedColumnsWarning)
        with pytest.raises(SwappedColumnsWarning):
            publisher.publish("never", load("umls").mapped_triples[:, [0, 2, 1]])
    assert "never" not in publisher.list_datasets()


def test_relations_beyond_their_number_are_refused(publisher: Client):
    swapped = load("umls").mapped_triples[:, [0, 2, 1]]
    with pytest.raises(InvalidRequestError, match=r"there are 46 ids.*head, relation, tail"):
        publisher.publish("never", swapped, num_relations=46)
    with pytest.raises(InvalidRequestError, match="head, relation, tail"):
        publisher.publish("never", np.array([[0, 9, 1]]), num_relations=2)


def test_columns_of_a_factory_are_not_checked(publisher: Client):
    """A factory states which column is which."""
    factory: RemoteTriplesFactory = publisher.publish("nations", Nations())
    assert factory.num_relations == 55
