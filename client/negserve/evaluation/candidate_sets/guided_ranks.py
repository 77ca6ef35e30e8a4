"""Metrics of the full ranking from a walk: all queries a little way, ever fewer of them farther."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.candidate_sets.audit import (
    MIN_AUDITED,
    Estimate,
    Metric,
    bounded,
    metrics_of,
    quantile,
)
from negserve.types.checks.invalid import check_integer

_Floats = NDArray[np.float64]
#: Queries of a stage are divided by the number of candidates above that are found so far: up to
#: each of these, and more. Where 10 are found, hits@10 is known.
_EDGES = (0.5, 1.5, 4.5, 9.5)
#: More candidates above than this must be expected for a query to be a doubtful one.
_DOUBT = 0.1
#: What the next candidates take from the reciprocal rank of a query that is not doubtful: so much
#: less than from that of one that is.
_REST = 0.25
#: Fewest queries that go on from a class, if it has them: a variance needs some.
_LEAST = 8


@dataclass(frozen=True, eq=False)
class _Stage:
    """What is known of the queries that got so far.

    :ivar rows: of all queries, shape (a,)
    :ivar ranks: among the candidates so far, shape (a,)
    :ivar weights: how many queries each stands for, shape (a,)
    :ivar classes: of these queries, small integers, shape (a,)
    """

    rows: NDArray[np.int64]
    ranks: _Floats
    weights: _Floats
    classes: NDArray[np.int64]


class GuidedRanks:
    """Ranks of m queries: of all among few guided candidates, of ever fewer among more.

    A guide (:class:`CandidateGuide`) puts the candidates that are likely above the true answer
    first. Each query gets a rank among the first of them. Then some queries go on to more
    candidates, and of these some to all: drawn at random, more of those whose metric may still
    change. So each stage corrects the one before (Horvitz and Thompson, 1952), without bias,
    whatever the guide is worth::

        guided = guide.first(positives, "tail", landmark_scores, target_scores, depth=320)
        walk = GuidedRanks(len(positives), seed=7)
        rows = walk.rows  # all
        for depth, num_next in ((72, 3000), (128, 600), (320, 100)):
            walk.look(ranks_among(rows, depth), guided.expected[rows, depth - 1])
            rows = walk.choose(num_next)
        estimates = walk.finish(full_ranks(rows))

    :param num_queries: m
    :param seed: which queries go on is a pure function of it and of what was looked at
    """

    def __init__(self, num_queries: int, seed: int) -> None:
        check_integer("num_queries", num_queries, 1, 2**62)
        check_integer("seed", seed, 0, 2**64 - 1)
        self._num_queries, self._seed = num_queries, seed
        self._stages: list[_Stage] = []
        self.rows: NDArray[np.int64] = np.arange(num_queries)
        self._weights: _Floats = np.ones(num_queries)
        self._is_looked_at = False

    def look(self, ranks: ArrayLike, expected: ArrayLike) -> None:
        """Take the ranks of ``rows`` among the candidates of this stage.

        :param ranks: realistic ranks, from 1 on, shape (a,); none may be less than before
        :param expected: how many more candidates are expected above the true answer, shape (a,);
            says who is likelier to go on
        :raises InvalidRequestError: for other shapes, or a rank that is less than before
        """
        found, more = self._checked(ranks), np.asarray(expected, dtype=np.float64)
        if more.shape != found.shape:
            raise InvalidRequestError(f"expected has shape {more.shape}; give {found.shape}")
        classes = np.digitize(found - 1, _EDGES) * 2 + (more > _DOUBT)
        self._stages.append(_Stage(self.rows, found, self._weights, classes))
        self._is_looked_at = True

    def _checked(self, ranks: ArrayLike) -> _Floats:
        found = np.asarray(ranks, dtype=np.float64)
        if found.shape != self.rows.shape or self._is_looked_at:
            raise InvalidRequestError(
                f"ranks have shape {found.shape}; give those of rows, shape {self.rows.shape}, "
                f"once, and then choose() which of them go on"
            )
        before = np.ones(len(found))
        if self._stages:
            last = self._stages[-1]
            before = last.ranks[np.searchsorted(last.rows, self.rows)]
        wrong = ~(found >= before)
        if wrong.any():
            i = int(wrong.argmax())
            raise InvalidRequestError(
                f"rank {found[i]} of query {self.rows[i]} is less than {before[i]}; rank it among "
                f"the candidates so far and more"
            )
        return found

    def choose(self, num_rows: int) -> NDArray[np.int64]:
        """Choose which of ``rows`` go on, and make them the new ``rows``.

        :param num_rows: how many, at least 100; all if there are fewer
        :return: distinct rows of all queries, ascending, shape (num_rows,)
        :raises InvalidRequestError: for fewer, or before :meth:`look`
        """
        check_integer("num_rows", num_rows, MIN_AUDITED, 2**62)
        if not self._is_looked_at:
            raise InvalidRequestError("choose() comes after look(): its ranks say who goes on")
        stage = self._stages[-1]
        names, at, sizes = np.unique(stage.classes, return_inverse=True, return_counts=True)
        spread = np.where(names % 2 == 1, 1.0, _REST) / np.array([1, 2, 3, 6, 11])[names // 2]
        wanted = spread * np.bincount(at, stage.weights)
        counts = _divided(min(num_rows, len(stage.rows)), wanted, sizes)
        bits = np.random.Philox(key=[self._seed, len(self._stages)])
        order = np.lexsort((bits.random_raw(len(stage.rows)), at))
        starts = np.cumsum(sizes) - sizes
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order)) - np.repeat(starts, sizes)
        goes_on = place < counts[at]
        self.rows = stage.rows[goes_on]
        self._weights = (stage.weights * (sizes / counts)[at])[goes_on]
        self._is_looked_at = False
        return self.rows

    def finish(
        self, ranks: ArrayLike, *, hits: Sequence[int] = (1, 3, 10), confidence: float = 0.95
    ) -> Mapping[str, Estimate]:
        """Estimate mean reciprocal rank and hits@k of the full ranking.

        :param ranks: realistic filtered ranks of ``rows`` among all candidates, shape (a,)
        :param hits: the k of hits@k
        :param confidence: of the intervals, between 0 and 1
        :return: by name: ``mrr``, ``hits@1`` and so on. The values have no bias
        :raises InvalidRequestError: for other shapes, or a rank that is less than before
        """
        exact = self._checked(ranks)
        last = _Stage(self.rows, exact, self._weights, np.zeros(len(exact), dtype=np.int64))
        z = quantile(confidence)
        stages = [*self._stages, last]
        return {name: self._estimate(stages, of, z) for name, of in metrics_of(hits).items()}

    def _estimate(self, stages: Sequence[_Stage], metric: Metric, z: float) -> Estimate:
        m = self._num_queries
        total = float((metric(stages[0].ranks) * stages[0].weights).sum())
        variance = spread = 0.0
        # What a query of the last stage is worth is known; before, it is what those that went on
        # from its class were worth, on average.
        worth = metric(stages[-1].ranks)
        for stage, deeper in zip(stages[-2::-1], stages[:0:-1], strict=True):
            at = np.searchsorted(stage.rows, deeper.rows)
            now = metric(stage.ranks)
            total += float((deeper.weights * (metric(deeper.ranks) - now[at])).sum())
            names, inside = np.unique(stage.classes, return_inverse=True)
            n, a = np.bincount(inside), np.bincount(inside[at], minlength=len(names))
            change = worth - now[at]
            mean = np.bincount(inside[at], change, minlength=len(names)) / a
            scaled = change * stage.weights[at]
            scaled_mean = np.bincount(inside[at], scaled, minlength=len(names)) / a
            away = scaled - scaled_mean[inside[at]]
            squares = np.zeros(len(names))
            np.add.at(squares, inside[at], away**2)
            # A class without a change does not know how rare one is. So two more are invented (as
            # Agresti and Coull, 1998, invent two successes of four), each the least that the
            # metric can change: to the next rank, or for hits@k from 1 to 0.
            step = now - metric(stage.ranks + 1)
            largest = np.zeros(len(names))
            np.maximum.at(largest, inside, np.where(step > 0, step, now))
            invented = largest * (np.bincount(inside, stage.weights) / n)
            squares += 2 * invented**2
            share = np.bincount(inside[at], 1 / deeper.weights, minlength=len(names)) / a
            part = n**2 / a * squares / np.maximum(a - 1, 1) * (1 - share)
            variance += float(part.sum())
            spread += float((part**2 / np.maximum(a - 1, 1)).sum())
            worth = now + mean[inside]
        freedom = variance**2 / spread if spread > 0 else math.inf
        z += (z**3 + z) / (4 * max(freedom, 1.0))  # Student's t, to the first order
        return bounded(total / m, math.sqrt(variance) / m, z)


def _divided(num: int, wanted: _Floats, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide a number among classes in proportion, within their sizes and at least some each."""
    counts = np.minimum(sizes, _LEAST)
    # Each takes its share of what is left; what a full class can't take goes to the others.
    while (left := num - int(counts.sum())) > 0:
        open_ = wanted * (counts < sizes)
        share = np.floor(left * open_ / open_.sum()).astype(np.int64)
        if not share.any():
            # Fewer are left than classes: one each, the largest first.
            share[np.argsort(-open_, kind="stable")[:left]] = 1
        counts = np.minimum(counts + share, sizes)
    return counts
