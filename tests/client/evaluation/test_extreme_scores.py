"""Evaluations of models that have diverged, of narrow dtypes, and of scores that are none."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from negserve import InvalidRequestError
from negserve.evaluation import EvaluationReport, evaluate
from negserve.types.config import Slot
from negserve_server.graph import TriplesFactory
from tests.client.evaluation.test_evaluate import TiedScores, num_ids, ranks_of
from tests.support.graphs import load

SLOTS: tuple[Slot, ...] = ("head", "relation", "tail")


def constant(value: float) -> EvaluationReport:
    graph = load("world")

    def score(pairs: Tensor, slot: Slot, /) -> Tensor:
        return torch.full((), value).expand(len(pairs), num_ids(graph, slot))

    return evaluate(score, graph, graph.splits["testing"][:40], slots=SLOTS)


def test_a_model_that_gives_nan_ranks_everything_last():
    report = constant(math.nan)
    assert (report.optimistic == report.num_candidates).all()
    assert (report.pessimistic == report.num_candidates).all()
    assert report.metric("adjusted_arithmetic_mean_rank_index") <= -0.9


@pytest.mark.parametrize("value", [-math.inf, math.inf, 0.0])
def test_a_model_that_gives_the_same_everywhere_is_as_good_as_random(value: float):
    report = constant(value)
    assert (report.optimistic == 1).all()
    assert (report.pessimistic == report.num_candidates).all()
    assert report.metric("adjusted_arithmetic_mean_rank_index") == pytest.approx(0)


def test_what_is_left_out_does_not_tie_with_a_target_of_minus_infinity():
    graph = TriplesFactory({"training": [[0, 0, 1], [0, 0, 2]], "testing": [[0, 0, 3]]})
    scores = torch.tensor([[0.0, math.inf, math.inf, -math.inf]])
    report = evaluate(lambda pairs, slot: scores, graph, split="testing", slots=("tail",))
    assert ranks_of(report) == [(2, 2, 2)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_dtype_is_compared_as_it_is(dtype: torch.dtype):
    graph = load("world")
    score, triples = TiedScores(graph), graph.splits["testing"][:40]
    expected = evaluate(score, graph, triples)  # numbers from 0 to 25, exact in all of them
    assert evaluate(lambda pairs, slot: score(pairs, slot).to(dtype), graph, triples) == expected


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (lambda scores: scores.T, "returned shape"),
        (lambda scores: scores[:1], "returned shape"),
        (lambda scores: scores[:, :-1], "returned shape"),
        (lambda scores: scores.unsqueeze(2), "returned shape"),
        (lambda scores: scores.long(), "torch.int64"),
        (lambda scores: scores > 3, "torch.bool"),
        (lambda scores: scores.to(torch.complex64), "torch.complex64"),
        (lambda scores: scores.numpy(), "a ndarray"),
        (lambda scores: scores.to_sparse(), "torch.sparse_coo"),
        (lambda scores: scores.to("meta"), "meta"),
    ],
)
def test_what_are_no_scores_is_refused(scores: Any, words: str):
    graph = load("world")
    score = TiedScores(graph)
    with pytest.raises(InvalidRequestError) as refused:
        evaluate(lambda pairs, slot: scores(score(pairs, slot)), graph, graph.splits["testing"][:5])
    assert words in str(refused.value)
    assert "score function" in str(refused.value)


def test_a_relation_without_training_triples_is_a_kind_of_its_own():
    graph = TriplesFactory(
        {"training": [[0, 0, 1], [0, 0, 2]], "testing": [[0, 1, 3], [1, 0, 3]]}, num_relations=3
    )
    report = evaluate(TiedScores(graph), graph, split="testing")
    assert report.per_relation_kind("count") == {"1-N": 2.0, "unseen": 2.0}
    assert report.table().splitlines()[-1].startswith("unseen both")


def test_a_graph_of_one_split_is_filtered_by_it():
    graph = TriplesFactory({"training": [[0, 0, 1], [0, 0, 2]]})
    report = evaluate(TiedScores(graph), graph, split="training", slots=("tail",))
    assert report.filter_splits == ("training",)
    assert report.num_candidates.tolist() == [2, 2]
