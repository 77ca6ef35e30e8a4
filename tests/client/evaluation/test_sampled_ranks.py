"""Metrics of the full ranking, estimated from samples."""

from __future__ import annotations

import math
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negserve import InvalidRequestError, SamplerConfig
from negserve.evaluation import EvaluationSet, SampledRanks, audit_rows, count_possible
from tests.support.graphs import load

ALL: Any = ("training", "validation", "testing")


def of(above: Any, sampled: int, possible: int, tied: Any = 0) -> SampledRanks:
    above = np.atleast_1d(above)
    shape = np.ones(len(above), dtype=np.int64)
    return SampledRanks(above, shape * tied, shape * sampled, shape * possible)


def outcomes(possible: int, above: int, sampled: int) -> dict[int, float]:
    """The probability of each number of sampled candidates above, exactly."""
    return {
        x: comb(above, x) * comb(possible - above, sampled - x) / comb(possible, sampled)
        for x in range(max(0, sampled - possible + above), min(above, sampled) + 1)
    }


@given(st.data())
def test_ranks_and_their_variance_are_without_bias(data: st.DataObject):
    possible = data.draw(st.integers(2, 12))
    above, sampled = data.draw(st.integers(0, possible)), data.draw(st.integers(2, possible))
    law = outcomes(possible, above, sampled)
    ranks = {x: of(x, sampled, possible).scaled_ranks[0] for x in law}
    mean = sum(p * ranks[x] for x, p in law.items())
    assert mean == pytest.approx(1 + above)
    variance = sum(p * (ranks[x] - mean) ** 2 for x, p in law.items())
    estimated = sum(
        p * of(x, sampled, possible).mean_rank().standard_error ** 2 for x, p in law.items()
    )
    assert estimated == pytest.approx(variance, abs=1e-9)


def test_ties_count_half():
    # Of 4 candidates one is above and one tied; each pair of them is sampled alike.
    kinds = ["above", "tied", "below", "below"]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    total = 0.0
    for pair in pairs:
        found = [kinds[i] for i in pair]
        ranks = of(found.count("above"), 2, 4, found.count("tied"))
        total += ranks.scaled_ranks[0] / len(pairs)
    assert total == pytest.approx(1 + 1 + 1 / 2)


@pytest.mark.parametrize("name", ["mrr", "hits@3"])
def test_samples_alone_have_no_unbiased_estimate(name: str):
    """No function of what is sampled has the metric as its expectation, unless all is sampled."""
    possible = 8
    metric = [1 / (1 + k) if name == "mrr" else float(k < 3) for k in range(possible + 1)]
    for sampled in range(1, possible + 1):
        law = np.zeros((possible + 1, sampled + 1))
        for above in range(possible + 1):
            for x, p in outcomes(possible, above, sampled).items():
                law[above, x] = p
        best = np.linalg.lstsq(law, np.array(metric), rcond=None)[0]
        is_unbiased = np.allclose(law @ best, metric, atol=1e-9)
        assert is_unbiased == (sampled == possible)


def test_an_audit_of_all_is_the_full_ranking():
    rng = np.random.default_rng(0)
    above = rng.integers(0, 50, 120)
    estimates = of(rng.integers(0, 5, 120), 5, 50).audited(np.arange(120), 1.0 + above)
    assert estimates["mrr"].value == pytest.approx((1 / (1 + above)).mean())
    assert estimates["hits@10"].value == pytest.approx((above < 10).mean())
    assert estimates["mrr"].high - estimates["mrr"].low == pytest.approx(0)


@pytest.mark.parametrize("spread", [1.0, 2.5])
def test_intervals_contain_the_full_metric_as_often_as_they_say(spread: float):
    rng = np.random.default_rng(1)
    m, possible, sampled, draws = 2000, 1000, 100, 400
    above = np.minimum(np.exp(rng.normal(2, spread, m)).astype(np.int64), possible)
    truth = {"mrr": (1 / (1 + above)).mean(), "hits@1": (above < 1).mean(),
             "hits@10": (above < 10).mean(), "mean rank": 1 + above.mean()}  # fmt: skip
    covered, errors = dict.fromkeys(truth, 0), []
    for seed in range(draws):
        drawn = of(rng.hypergeometric(above, possible - above, sampled), sampled, possible)
        rows = audit_rows(m, 100, seed)
        estimates = dict(drawn.audited(rows, 1.0 + above[rows]))
        estimates["mean rank"] = drawn.mean_rank()
        for name, full in truth.items():
            covered[name] += estimates[name].low <= full <= estimates[name].high
        errors.append(estimates["mrr"].value - truth["mrr"])
    # Of 400, 95 % are 380, with a standard deviation of 4.4.
    assert min(covered.values()) >= 0.91 * draws
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(draws)


def test_samples_make_intervals_narrower():
    rng = np.random.default_rng(2)
    above = np.minimum(np.exp(rng.normal(3, 2, 2000)).astype(np.int64), 1000)
    rows = audit_rows(2000, 200, 3)
    errors = [
        of(rng.hypergeometric(above, 1000 - above, n), n, 1000)
        .audited(rows, 1.0 + above[rows])["mrr"]
        .standard_error
        for n in (1, 30, 300)
    ]
    assert errors[2] < 0.7 * errors[0]
    assert errors[1] < errors[0]


SCORES = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, math.nan])


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.tuples(SCORES, st.lists(st.tuples(SCORES, st.booleans()), min_size=n, max_size=n)),
            min_size=1,
            max_size=5,
        )
    )
)
def test_scores_are_counted(rows: list[tuple[float, list[tuple[float, bool]]]]):
    if not all(any(counts for _, counts in row) for _, row in rows):
        return
    got = SampledRanks.of_scores(
        [target for target, _ in rows],
        [[score for score, _ in row] for _, row in rows],
        [[counts for _, counts in row] for _, row in rows],
        np.full(len(rows), 9),
    )
    for i, (target, row) in enumerate(rows):
        low = -math.inf if math.isnan(target) else target
        scores = [-math.inf if math.isnan(score) else score for score, counts in row if counts]
        assert got.num_above[i] == sum(score > low for score in scores)
        assert got.num_tied[i] == sum(score == low for score in scores)
        assert got.num_sampled[i] == len(scores)


def test_what_is_possible_is_counted():
    graph = load("world")
    rng = np.random.default_rng(0)
    triples = np.concatenate(
        [graph.splits["testing"][:40], rng.integers(0, graph.num_relations, (40, 3))]
    )
    for side, column in (("head", 0), ("tail", 2)):
        counts = count_possible(graph, triples, side)  # type: ignore[arg-type]
        for triple, count in zip(triples, counts, strict=True):
            others = np.repeat(triple[None], graph.num_entities, axis=0)
            others[:, column] = np.arange(graph.num_entities)
            known = graph.contains(others, ALL)
            known[triple[column]] = True
            assert count == (~known).sum()


def test_candidates_of_a_set_are_estimated_well():
    """From a pinned set to the mean rank of a full ranking, with scores of all triples."""
    graph = load("world")
    rng = np.random.default_rng(5)
    scores = rng.normal(size=graph.num_entities)
    config = SamplerConfig(num_negs_per_pos=200, filter_splits=ALL, distinct=True, seed=1)
    pinned = EvaluationSet.create(graph, config, split="testing")
    for batch in pinned.batches(graph, batch_size=1000):
        possible = count_possible(graph, batch.positives, batch.side)
        sampled = SampledRanks.of_scores(
            scores[batch.targets], scores[batch.candidates], batch.mask, possible
        )
        kept = [0, 1] if batch.side == "tail" else [1, 2]
        known = graph.known(batch.positives[:, kept], batch.side, ALL)
        ranks = []
        for target, others in zip(batch.targets, known, strict=True):
            rest = np.delete(scores, others)
            ranks.append(1 + (rest > scores[target]).sum())
        estimate = sampled.mean_rank(confidence=0.9999)
        assert estimate.low <= np.mean(ranks) <= estimate.high
        assert estimate.high - estimate.low < 0.2 * np.mean(ranks)


def test_audited_queries_are_the_same_everywhere():
    assert audit_rows(1000, 5, 7).tolist() == GOLDEN
    assert audit_rows(10, 10, 0).tolist() == list(range(10))
    with pytest.raises(InvalidRequestError, match="num_audited=11"):
        audit_rows(10, 11, 0)


GOLDEN: list[int] = [201, 535, 631, 753, 887]


@pytest.mark.parametrize(
    ("rows", "ranks", "text"),
    [
        (np.arange(99), np.ones(99), "at least 100"),
        (np.arange(120), np.ones(119), "shape"),
        (np.zeros(120, dtype=int), np.ones(120), "twice"),
        (np.arange(100, 220), np.ones(120), "0 to 199"),
        (np.arange(120), np.zeros(120), "rank 0.0 of query 0"),
        (np.arange(120), np.full(120, 12.5), "1 to 11"),
    ],
)
def test_a_wrong_audit_is_refused(rows: Any, ranks: Any, text: str):
    with pytest.raises(InvalidRequestError, match=text):
        of(np.zeros(200, dtype=int), 5, 10).audited(rows, ranks)


@pytest.mark.parametrize(
    ("above", "tied", "sampled", "possible"),
    [(3, 0, 2, 9), (1, 2, 2, 9), (0, 0, 0, 9), (0, 0, 5, 4), (-1, 0, 2, 9)],
)
def test_impossible_counts_are_refused(above: int, tied: int, sampled: int, possible: int):
    with pytest.raises(InvalidRequestError, match="query 0"):
        of(above, sampled, possible, tied)
