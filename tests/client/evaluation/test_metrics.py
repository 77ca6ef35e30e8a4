"""Metrics by hand, and their expectation under random scores."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from negserve import InvalidRequestError, RelationStatistics
from negserve.evaluation import METRIC_NAMES, metric, relation_kinds


def test_the_mean_reciprocal_rank_is_not_the_reciprocal_mean_rank():
    assert metric("inverse_harmonic_mean_rank", [1, 2, 4]) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert metric("inverse_arithmetic_mean_rank", [1, 2, 4]) == pytest.approx(3 / 7)


@pytest.mark.parametrize("name", [name for name in METRIC_NAMES if name.startswith("adjusted_")])
def test_adjusted_metrics_average_to_what_random_scores_give(name: str):
    # All equally likely outcomes of three queries.
    counts = (2, 3, 5)
    found = [
        metric(name, ranks, counts)
        for ranks in itertools.product(*(range(1, count + 1) for count in counts))
    ]
    random = 1 if name == "adjusted_arithmetic_mean_rank" else 0
    if name not in {"adjusted_hits_at_5", "adjusted_hits_at_10"}:  # all hit
        assert np.mean(found) == pytest.approx(random, abs=1e-9)
        if random == 0:
            assert max(found) == pytest.approx(1)


@pytest.mark.parametrize(
    "name",
    ["z_arithmetic_mean_rank", "z_geometric_mean_rank", "z_hits_at_1", "z_hits_at_3",
     "z_inverse_harmonic_mean_rank"],
)  # fmt: skip
def test_z_scores_have_mean_0_and_deviation_1(name: str):
    counts = (2, 3, 5)
    found = [
        metric(name, ranks, counts)
        for ranks in itertools.product(*(range(1, count + 1) for count in counts))
    ]
    assert np.mean(found) == pytest.approx(0, abs=1e-9)
    assert np.std(found) == pytest.approx(1)
    assert np.argmax(found) == 0  # all ranks 1


@pytest.mark.parametrize(
    ("name", "ranks", "counts", "words"),
    [
        ("hits_at_0", [1], None, "there is no metric 'hits_at_0'"),
        ("hits@10", [1], None, "did you mean 'hits_at_10'"),
        ("median_rank", [], None, "at least one"),
        ("median_rank", [0.5], None, "all from 1 on"),
        ("median_rank", [math.nan], None, "all from 1 on"),
        ("z_hits_at_3", [1], None, "needs the number of candidates"),
        ("z_hits_at_3", [1], [2, 2], "needs the number of candidates"),
        ("z_hits_at_3", [1], [0], "needs the number of candidates"),
    ],
)
def test_what_is_no_metric_of_ranks_is_refused(
    name: str, ranks: list[float], counts: list[int] | None, words: str
):
    with pytest.raises(InvalidRequestError) as refused:
        metric(name, ranks, counts)
    assert words in str(refused.value)


def test_relations_are_many_from_one_and_a_half_on():
    tails = np.array([1.0, 1.5, 1.49, 7.0, math.nan])
    heads = np.array([1.49, 1.0, 1.5, 2.0, math.nan])
    statistics = RelationStatistics(tails, heads, np.full(5, 0.5))
    assert relation_kinds(statistics).tolist() == ["1-1", "1-N", "N-1", "N-N", "unseen"]
