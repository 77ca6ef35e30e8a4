"""Evaluations are equal wherever the known values come from."""

from __future__ import annotations

import functools

import pytest

from negserve import InvalidRequestError
from negserve.evaluation import EvaluationReport, evaluate
from tests.client.evaluation.test_evaluate import TiedScores
from tests.contract.conftest import ALL_SPLITS, Place, on_graphs
from tests.support.graphs import load

WAYS = ("in-process", "remote", "mapped", "pulled")


@functools.cache
def expected(name: str) -> EvaluationReport:
    graph = load(name)
    triples = graph.splits["validation"][:200]
    return evaluate(TiedScores(graph), graph, triples, filter_splits=ALL_SPLITS)


@on_graphs(ways=WAYS)
def test_reports_are_equal(place: Place, graph_name: str):
    graph = place.factory
    triples = place.graph.splits["validation"][:200]
    report = evaluate(TiedScores(graph), graph, triples)  # type: ignore[arg-type]
    assert report == expected(graph_name)


@pytest.mark.parametrize("where", ["in-process", "mapped", "pulled"], indirect=True)
def test_the_triples_of_a_split_come_from_graphs_on_this_machine(world: Place):
    graph = world.factory
    report = evaluate(TiedScores(graph), graph, split="validation")  # type: ignore[arg-type]
    assert report == evaluate(TiedScores(graph), world.graph, world.graph.splits["validation"])


def test_a_server_does_not_give_the_triples_of_a_split(remote_world: Place):
    graph = remote_world.factory
    with pytest.raises(InvalidRequestError, match="compute='client'"):
        evaluate(TiedScores(graph), graph, split="validation")  # type: ignore[arg-type]
