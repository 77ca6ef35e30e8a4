"""Triple classification."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negserve import InvalidRequestError
from negserve.evaluation import ClassifiedScores, classify_triples
from negserve.evaluation.candidate_sets.triple_classification import auc, best_threshold

LABELLED = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-4, 4), st.booleans()), min_size=1, max_size=30
)


def scores_of(rows: list[tuple[int, int, bool]]) -> ClassifiedScores:
    relations, scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    return ClassifiedScores(relations, scores.astype(float), labels)


@given(LABELLED)
def test_the_area_is_the_share_of_pairs_in_order(rows: list[tuple[int, int, bool]]):
    got = scores_of(rows)
    positives, negatives = got.scores[got.labels], got.scores[~got.labels]
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    if pairs:
        assert auc(got.scores, got.labels) == pytest.approx(np.mean(pairs))
    else:
        assert math.isnan(auc(got.scores, got.labels))


@given(LABELLED)
def test_no_threshold_is_better(rows: list[tuple[int, int, bool]]):
    got = scores_of(rows)

    def right(threshold: float) -> int:
        return int(((got.scores >= threshold) == got.labels).sum())

    best = best_threshold(got.scores, got.labels)
    assert right(best) == max(right(limit) for limit in [*np.arange(-4.5, 5.5), math.inf])


@given(LABELLED, LABELLED)
def test_accuracy_is_that_of_the_thresholds(
    validation: list[tuple[int, int, bool]], test: list[tuple[int, int, bool]]
):
    result = classify_triples(scores_of(validation), scores_of(test))
    right = fallback = 0
    for relation, score, label in test:
        has_own = {label for other, _, label in validation if other == relation} == {True, False}
        assert has_own == (relation in result.thresholds)
        assert has_own != (relation in result.fallback_relations)
        fallback += not has_own
        limit = result.thresholds.get(relation, result.global_threshold)
        right += (score >= limit) == label
    assert result.accuracy == pytest.approx(right / len(test))
    assert result.num_fallback == fallback


def test_a_relation_has_a_threshold_of_its_own():
    joined = ClassifiedScores.of_positives_and_negatives([0, 1, 1], [1.0, 10, 12], [0, 1], [0.0, 8])
    result = classify_triples(joined, joined)
    assert result.thresholds == {0: 0.5, 1: 9.0}
    assert result.accuracy == result.relation_auc == 1
    assert result.auc == 5 / 6
    other = ClassifiedScores.of_positives_and_negatives([2], [5.0], [], [])
    result = classify_triples(joined, other)
    assert result.fallback_relations == (2,)
    assert "1 triples of 1 relations have the global threshold" in str(result)
    assert math.isnan(result.auc)


@pytest.mark.parametrize(
    ("relations", "scores", "labels", "text"),
    [
        ([0], [1.0, 2.0], [True], "shapes"),
        ([0.5], [1.0], [True], "give integers"),
        ([0], [1.0], [1], "bools"),
        ([0], [math.nan], [True], "row 0 is NaN"),
        ([-1], [1.0], [True], "from 0 on"),
    ],
)
def test_what_is_wrong_is_named(
    relations: list[int], scores: list[float], labels: list[bool], text: str
):
    with pytest.raises(InvalidRequestError, match=text):
        ClassifiedScores(np.array(relations), np.array(scores), np.array(labels))


def test_no_triples_are_refused():
    some = ClassifiedScores.of_positives_and_negatives([0], [1.0], [0], [0.0])
    none = ClassifiedScores.of_positives_and_negatives([], [], [], [])
    with pytest.raises(InvalidRequestError, match="validation"):
        classify_triples(none, some)
    with pytest.raises(InvalidRequestError, match="test"):
        classify_triples(some, none)
