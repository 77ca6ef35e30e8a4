"""An order of all entities for each query, predicted from the scores of few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from negserve import InvalidRequestError
from negserve.evaluation import CandidateGuide, Estimate, GuidedRanks, count_possible
from negserve_server.graph import TriplesFactory
from tests.support.graphs import load

ALL: Any = ("training", "validation", "testing")
SIDES: Any = ("tail", "head")
WIDTH = 8


def scores_of(queries: Any, num_entities: int, kind: str) -> Any:
    """Score all entities: with a bilinear model, with distances, or with noise alone."""
    rng = np.random.default_rng(5)
    entities = rng.normal(size=(num_entities, WIDTH))
    if kind == "noise":
        return np.random.default_rng(len(queries)).normal(size=(len(queries), num_entities))
    if kind == "bilinear":
        return queries @ entities.T
    return -np.linalg.norm(queries[:, None] - entities, axis=2)


def queries_of(m: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=(m, WIDTH))


def small_graph(num_entities: int = 300, num_triples: int = 400) -> TriplesFactory:
    rng = np.random.default_rng(2)
    ids = np.arange(num_entities)
    ring = np.stack([ids, ids % 3, (ids + 1) % num_entities], axis=1)
    more = np.stack([rng.integers(0, num_entities, num_triples) for _ in range(3)], axis=1)
    more[:, 1] %= 3
    return TriplesFactory({"training": np.unique(np.concatenate([ring, more]), axis=0)})


@pytest.mark.parametrize("side", SIDES)
def test_candidates_are_legal_and_the_landmarks_come_first(side: Any):
    graph = load("world")
    column, kept = (0, [1, 2]) if side == "head" else (2, [0, 1])
    rng = np.random.default_rng(0)
    sizes = (graph.num_entities, graph.num_relations, graph.num_entities)
    strange = np.stack([rng.integers(0, size, 20) for size in sizes], axis=1)
    triples = np.concatenate([graph.splits["testing"][:30], strange])
    queries = queries_of(len(triples))
    scores = scores_of(queries, graph.num_entities, "distance")
    guide = CandidateGuide(graph, scores_of(queries_of(20, 9), graph.num_entities, "distance"), 6)
    target = scores[np.arange(len(triples)), triples[:, column]]
    marks = scores[:, guide.landmarks]
    assert len(set(guide.landmarks.tolist())) == 6
    everything = guide.first(triples, side, marks, target, graph.num_entities)
    few = guide.first(triples, side, marks, target, 9)
    np.testing.assert_array_equal(few.ids, everything.ids[:, :9])
    np.testing.assert_array_equal(few.mask, everything.mask[:, :9])
    np.testing.assert_allclose(few.expected, everything.expected[:, :9], atol=1e-3)
    possible = count_possible(graph, triples, side)
    known = graph.known(triples[:, kept], side, ALL)
    for i, triple in enumerate(triples):
        others = set(range(graph.num_entities)) - set(known[i].tolist()) - {int(triple[column])}
        assert sorted(everything.ids[i][everything.mask[i]].tolist()) == sorted(others)
        assert len(others) == possible[i]
        assert everything.ids[i][:6].tolist() == guide.landmarks.tolist()
    assert everything.expected[:, -1] == pytest.approx(0, abs=1e-3)


def test_scores_of_low_rank_are_predicted_exactly():
    """As many landmarks and pilots as the model has dimensions, and the mean, are enough."""
    graph, m = small_graph(), 50
    triples = graph.mapped_triples[:m]
    scores = scores_of(queries_of(m), graph.num_entities, "bilinear")
    pilots = scores_of(queries_of(WIDTH + 2, 9), graph.num_entities, "bilinear")
    guide = CandidateGuide(graph, pilots, WIDTH)
    target = scores[np.arange(m), triples[:, 2]]
    first = guide.first(triples, "tail", scores[:, guide.landmarks], target, graph.num_entities)
    found = np.take_along_axis(scores, first.ids, 1)
    for i in range(m):
        others = found[i, WIDTH:][first.mask[i, WIDTH:]]
        assert (np.diff(others) < 1e-3).all()
        above = found[i] > target[i]
        # Those above the true answer, and legal, that come after the landmarks.
        assert first.expected[i, WIDTH - 1] == pytest.approx(
            (above & first.mask[i])[WIDTH:].sum(), abs=0.1
        )


def full_and_guided(
    kind: str, draws: int, counts: tuple[int, ...]
) -> tuple[Any, list[Mapping[str, Estimate]]]:
    """Rank all queries of a graph, and estimate from guided candidates many times."""
    graph = small_graph()
    m = len(graph.mapped_triples)
    queries = queries_of(m)
    scores = scores_of(queries, graph.num_entities, kind)
    at = np.arange(m)
    # True answers score well, or the metrics would be near 0 for all.
    scores[at, graph.mapped_triples[:, 2]] += 2 * scores.std()
    target = scores[at, graph.mapped_triples[:, 2]]
    guide = CandidateGuide(graph, scores[:20], 10)
    first = guide.first(
        graph.mapped_triples, "tail", scores[:, guide.landmarks], target, graph.num_entities
    )
    above = (np.take_along_axis(scores, first.ids, 1) > target[:, None]) & first.mask
    ranks = 1 + above.cumsum(axis=1)
    estimates = []
    for seed in range(draws):
        walk = GuidedRanks(m, seed)
        for depth, count in zip((15, 40), counts, strict=True):
            walk.look(ranks[walk.rows, depth - 1], first.expected[walk.rows, depth - 1])
            walk.choose(count)
        estimates.append(walk.finish(ranks[walk.rows, -1], hits=(1, 10)))
    return ranks[:, -1], estimates


@pytest.mark.parametrize("kind", ["bilinear", "distance", "noise"])
def test_estimates_have_no_bias_and_honest_intervals_whatever_the_guide_is_worth(kind: str):
    full, estimates = full_and_guided(kind, 200, (300, 100))
    truth = {"mrr": (1 / full).mean(), "hits@10": (full <= 10).mean()}
    for name, value in truth.items():
        assert 0.02 < value < 0.98
        errors = np.array([each[name].value - value for each in estimates])
        assert abs(errors.mean()) <= 4 * errors.std() / np.sqrt(len(errors)) + 1e-9
        covered = sum(each[name].low <= value <= each[name].high for each in estimates)
        # Of 200, 95 % are 190, with a standard deviation of 3.1.
        assert covered >= 180


def test_a_good_guide_makes_small_errors():
    errors = {}
    for kind in ("bilinear", "noise"):
        full, estimates = full_and_guided(kind, 50, (300, 100))
        each = np.array([estimate["mrr"].value for estimate in estimates]) - (1 / full).mean()
        errors[kind] = float(np.sqrt(np.square(each).mean()))
    assert errors["bilinear"] < errors["noise"] / 3


def test_wrong_scores_are_refused():
    graph = small_graph()
    pilots = scores_of(queries_of(20), graph.num_entities, "bilinear")
    with pytest.raises(InvalidRequestError, match=r"shape \(20, 299\).* all 300 entities"):
        CandidateGuide(graph, pilots[:, 1:], 5)
    with pytest.raises(InvalidRequestError, match="num_landmarks=301"):
        CandidateGuide(graph, pilots, 301)
    masked = pilots.copy()
    masked[3, 7] = -np.inf
    with pytest.raises(InvalidRequestError, match="query 3 are not all finite"):
        CandidateGuide(graph, masked, 5)
    guide = CandidateGuide(graph, pilots, 5)
    triples = graph.mapped_triples[:4]
    with pytest.raises(InvalidRequestError, match="head or tail"):
        guide.first(triples, "relation", np.ones((4, 5)), np.ones(4), 8)
    with pytest.raises(InvalidRequestError, match=r"landmark_scores have shape \(4, 3\)"):
        guide.first(triples, "tail", np.ones((4, 3)), np.ones(4), 8)
    with pytest.raises(InvalidRequestError, match="query 2 are not all finite"):
        guide.first(triples, "tail", np.ones((4, 5)) * [[1], [1], [np.nan], [1]], np.ones(4), 8)
    with pytest.raises(InvalidRequestError, match="target_scores of query 1 are not all finite"):
        guide.first(triples, "tail", np.ones((4, 5)), [1, -np.inf, 1, 1], 8)
    with pytest.raises(InvalidRequestError, match="depth=4"):
        guide.first(triples, "tail", np.ones((4, 5)), np.ones(4), 4)
