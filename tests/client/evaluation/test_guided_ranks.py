"""Metrics of the full ranking from a walk along guided candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from negserve import InvalidRequestError
from negserve.evaluation import GuidedRanks

METRICS = ("mrr", "hits@1", "hits@10")


def walked(depths: Any, ranks: Any, counts: Any, seed: int) -> Any:
    """Estimate from ranks at each depth, the last of which are full."""
    walk = GuidedRanks(len(ranks[0]), seed)
    for depth, count in zip(depths, counts, strict=True):
        walk.look(ranks[depth][walk.rows], np.ones(len(walk.rows)))
        walk.choose(count)
    return walk.finish(ranks[-1][walk.rows], hits=(1, 10))


def ranks_of(m: int, miss: float, seed: int = 1) -> list[Any]:
    """Give ranks at two depths, and full ones: some candidates above are missed at each."""
    rng = np.random.default_rng(seed)
    full = np.minimum(np.exp(rng.normal(2, 2, m)).astype(np.int64), 1000)
    middle = rng.binomial(full, 1 - miss)
    first = rng.binomial(middle, 1 - miss)
    return [1.0 + first, 1.0 + middle, 1.0 + full]


def truth(full: Any) -> dict[str, float]:
    return {
        "mrr": (1 / full).mean(),
        "hits@1": (full <= 1).mean(),
        "hits@10": (full <= 10).mean(),
    }


def test_a_walk_of_all_queries_to_the_end_is_the_full_ranking():
    ranks = ranks_of(150, 0.5)
    estimates = walked((0, 1), ranks, (150, 150), 0)
    for name, value in truth(ranks[-1]).items():
        assert estimates[name].value == pytest.approx(value)
        assert estimates[name].high - estimates[name].low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("miss", [0.05, 0.5])
def test_estimates_have_no_bias_and_honest_intervals(miss: float):
    ranks, draws = ranks_of(3000, miss), 300
    full = truth(ranks[-1])
    drawn = [walked((0, 1), ranks, (600, 150), seed) for seed in range(draws)]
    for name in METRICS:
        errors = np.array([each[name].value - full[name] for each in drawn])
        assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(draws)
        covered = sum(each[name].low <= full[name] <= each[name].high for each in drawn)
        # Of 300, 95 % are 285, with a standard deviation of 3.8.
        assert covered >= 0.91 * draws


def test_a_guide_that_misses_nothing_makes_no_error():
    """And yet the interval says that 100 full ranks can't show that it misses nothing."""
    ranks = ranks_of(2000, 0.0)
    estimates = walked((0, 1), ranks, (300, 100), 3)
    for name, value in truth(ranks[-1]).items():
        assert estimates[name].value == pytest.approx(value)
        assert estimates[name].low < value < estimates[name].high


def test_the_same_queries_go_on_everywhere():
    walk = GuidedRanks(500, seed=7)
    walk.look(np.arange(500) % 20 + 1.0, 1.0 * (np.arange(500) % 3 == 0))
    rows = walk.choose(100)
    assert len(rows) == len(set(rows.tolist())) == 100
    assert rows[:5].tolist() == GOLDEN


GOLDEN: list[int] = [0, 1, 3, 9, 12]


def test_what_may_change_most_goes_on_most():
    walk = GuidedRanks(4000, seed=1)
    ranks = np.repeat([1.0, 30.0], 2000)
    walk.look(ranks, np.ones(4000))
    first = (ranks[walk.choose(400)] == 1).sum()
    assert first > 300


def test_doubtful_queries_go_on_most():
    walk = GuidedRanks(4000, seed=1)
    expected = np.repeat([0.0, 0.5], 2000)
    walk.look(np.ones(4000), expected)
    assert (expected[walk.choose(400)] > 0).sum() > 300


def test_a_walk_out_of_order_is_refused():
    walk = GuidedRanks(200, seed=0)
    with pytest.raises(InvalidRequestError, match="after look"):
        walk.choose(100)
    with pytest.raises(InvalidRequestError, match="shape"):
        walk.look(np.ones(199), np.ones(199))
    with pytest.raises(InvalidRequestError, match="expected"):
        walk.look(np.ones(200), np.ones(3))
    with pytest.raises(InvalidRequestError, match=r"rank 0\.5 of query 0"):
        walk.look(np.full(200, 0.5), np.ones(200))
    walk.look(np.full(200, 5.0), np.ones(200))
    with pytest.raises(InvalidRequestError, match="once"):
        walk.finish(np.full(200, 5.0))
    with pytest.raises(InvalidRequestError, match="num_rows=99"):
        walk.choose(99)
    rows = walk.choose(100)
    with pytest.raises(InvalidRequestError, match=r"rank 4.0 of query .* less than 5.0"):
        walk.finish(np.full(len(rows), 4.0))
    with pytest.raises(InvalidRequestError, match="hits"):
        walk.finish(np.full(len(rows), 5.0), hits=(0,))
