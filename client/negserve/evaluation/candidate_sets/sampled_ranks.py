"""Metrics of the full ranking, estimated from candidates of every query and from few full ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.evaluated_graph import splits_to_filter
from negserve.types.checks.invalid import check_integer
from negserve.types.config import SLOTS, Slot
from negserve.types.triples import as_triples
from negserve.types.triples_factory import TriplesFactory

#: Fewest audited queries: with fewer, the normal approximation of the interval is poor.
MIN_AUDITED = 100

#: Four invented errors of 1/2, squared. An audit without a rare success does not know how rare it
#: is (the "plus four" of Agresti and Coull, 1998).
_INVENTED_SQUARES = 4 * 0.5**2

_Ranks = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """An estimate of a metric, with an interval.

    The interval is about the metric of the full ranking of this model on these very queries: it
    says nothing of other queries, nor of another training of the model.

    :ivar value: the estimate
    :ivar low: lower end of the interval
    :ivar high: upper end of the interval
    :ivar standard_error: standard deviation of the estimate
    """

    value: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, eq=False)
class SampledRanks:
    """Where the true answers of m queries stand among n sampled candidates each.

    Candidates without repetitions (``distinct=True``) are assumed; ones that are drawn twice would
    count twice.

    :ivar num_above: candidates that score higher than the true answer, shape (m,)
    :ivar num_tied: candidates that score alike, shape (m,)
    :ivar num_sampled: candidates that count, at least 1, shape (m,)
    :ivar num_possible: what they were drawn from: candidates of the full ranking, shape (m,)
    """

    num_above: NDArray[np.int64]
    num_tied: NDArray[np.int64]
    num_sampled: NDArray[np.int64]
    num_possible: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("num_above", "num_tied", "num_sampled", "num_possible"):
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
                raise InvalidRequestError(
                    f"{name} is {values.dtype} of shape {values.shape}; give integers, shape (m,)"
                )
            if len(values) != len(np.asarray(self.num_above)):
                raise InvalidRequestError(
                    f"{name} has {len(values)} numbers for {len(self.num_above)} queries"
                )
            object.__setattr__(self, name, values.astype(np.int64))
        wrong = (
            (self.num_above < 0)
            | (self.num_tied < 0)
            | (self.num_above + self.num_tied > self.num_sampled)
            | (self.num_sampled < 1)
            | (self.num_sampled > self.num_possible)
        )
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidRequestError(
                f"query {row} has num_above={self.num_above[row]}, num_tied={self.num_tied[row]}, "
                f"num_sampled={self.num_sampled[row]}, num_possible={self.num_possible[row]}; each "
                f"sum must be at most the next, and there must be a candidate: leave out queries "
                f"without, and draw with distinct=True"
            )

    @classmethod
    def of_scores(
        cls,
        target_scores: ArrayLike,
        candidate_scores: ArrayLike,
        mask: ArrayLike,
        num_possible: ArrayLike,
    ) -> SampledRanks:
        """Count what scores above and like the true answers.

        A score that is NaN counts as lowest, that of a true answer as well: all candidates with
        another score are above it, and those with NaN are tied.

        :param target_scores: higher is better, shape (m,)
        :param candidate_scores: shape (m, n)
        :param mask: bool, shape (m, n), True where a candidate counts
        :param num_possible: shape (m,), as :func:`count_possible` gives it
        :raises InvalidRequestError: for other shapes, or a query without candidates
        """
        target = np.asarray(target_scores)
        scores, counts = np.asarray(candidate_scores), np.asarray(mask, dtype=np.bool_)
        if target.ndim != 1 or scores.ndim != 2 or len(scores) != len(target):
            raise InvalidRequestError(
                f"scores have shapes {target.shape} and {scores.shape}; give (m,) and (m, n)"
            )
        if counts.shape != scores.shape:
            raise InvalidRequestError(
                f"mask has shape {counts.shape}; give that of the candidates, {scores.shape}"
            )
        target = np.where(np.isnan(target), -np.inf, target)[:, None]
        scores = np.where(np.isnan(scores), -np.inf, scores)
        return cls(
            ((scores > target) & counts).sum(axis=1),
            ((scores == target) & counts).sum(axis=1),
            counts.sum(axis=1),
            np.asarray(num_possible),
        )

    @property
    def scaled_ranks(self) -> _Ranks:
        """Unbiased estimate of the realistic rank of each query, float64, shape (m,).

        1 + (num_above + num_tied / 2) * num_possible / num_sampled: the number of candidates above
        in the full ranking is num_possible / num_sampled times the expected number in the sample.
        """
        above = self.num_above + self.num_tied / 2
        scaled: _Ranks = 1 + above * self.num_possible / self.num_sampled
        return scaled

    def mean_rank(self, confidence: float = 0.95) -> Estimate:
        """Estimate the mean of the realistic ranks, without bias, from the samples alone.

        The variance is that of samples without replacement, estimated without bias for queries
        with at least two candidates.

        :param confidence: of the interval, between 0 and 1
        """
        n, possible = self.num_sampled, self.num_possible
        # A candidate contributes 1 if it is above and 1/2 if it is tied.
        mean = (self.num_above + self.num_tied / 2) / n
        square = (self.num_above + self.num_tied / 4) / n
        sample_variance = (square - mean**2) * n / np.maximum(n - 1, 1)
        variance = possible.astype(float) ** 2 * (1 - n / possible) * sample_variance / n
        error = math.sqrt(float(variance.sum())) / max(len(n), 1)
        value = float(self.scaled_ranks.mean())
        reach = _quantile(confidence) * error
        return Estimate(value, max(1.0, value - reach), value + reach, error)

    def audited(
        self,
        rows: ArrayLike,
        ranks: ArrayLike,
        *,
        hits: Sequence[int] = (1, 3, 10),
        confidence: float = 0.95,
    ) -> Mapping[str, Estimate]:
        """Estimate mean reciprocal rank and hits@k of the full ranking.

        Samples alone can't tell a true answer that is first from one that is tenth, unless they
        are nearly as large as the full ranking. So few queries are ranked fully, the *audit*. A
        regression on it predicts the metric of each query from its sample; the mean of all
        predictions, plus the mean error of those of the audit, is the estimate (the regression
        estimator of survey sampling). Its bias is of the order of 1 / number of audited queries,
        whatever the candidates were drawn from; the better they predict, the narrower the
        interval.

        :param rows: distinct indexes of the audited queries, drawn uniformly and without a look at
            scores, as :func:`audit_rows` does, at least 100, shape (a,)
        :param ranks: realistic filtered ranks of these queries among all candidates, from 1 on,
            shape (a,)
        :param hits: the k of hits@k
        :param confidence: of the intervals, between 0 and 1
        :return: by name: ``mrr``, ``hits@1`` and so on
        :raises InvalidRequestError: for rows that are no queries or repeated, ranks below 1 or
            above what is possible, and too few of them
        """
        at, exact = np.asarray(rows), np.asarray(ranks, dtype=np.float64)
        self._check_audit(at, exact)
        metrics: dict[str, Callable[[_Ranks], _Ranks]] = {"mrr": np.reciprocal}
        for k in hits:
            check_integer("hits", k, 1, 2**32)
            metrics[f"hits@{k}"] = lambda ranks, k=k: (ranks <= k).astype(np.float64)  # type: ignore[misc]
        return {
            name: self._regress(metric, at, exact, confidence) for name, metric in metrics.items()
        }

    def _check_audit(self, rows: NDArray[np.int64], ranks: _Ranks) -> None:
        if rows.ndim != 1 or rows.shape != ranks.shape or len(rows) < MIN_AUDITED:
            raise InvalidRequestError(
                f"rows have shape {rows.shape}, ranks {ranks.shape}; give at least {MIN_AUDITED} "
                f"queries and a rank of each: with fewer the interval would mislead"
            )
        m = len(self.num_above)
        if not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0 or rows.max() >= m:
            raise InvalidRequestError(f"rows must be indexes of the {m} queries, 0 to {m - 1}")
        if len(np.unique(rows)) < len(rows):
            raise InvalidRequestError("rows have a query twice; audit each query once")
        wrong = ~((ranks >= 1) & (ranks <= self.num_possible[rows] + 1))
        if wrong.any():
            i = int(wrong.argmax())
            raise InvalidRequestError(
                f"rank {ranks[i]} of query {rows[i]} is not from 1 to "
                f"{self.num_possible[rows[i]] + 1}; give ranks of the same filtered candidates"
            )

    def _regress(
        self,
        metric: Callable[[_Ranks], _Ranks],
        rows: NDArray[np.int64],
        ranks: _Ranks,
        confidence: float,
    ) -> Estimate:
        features = self._features(metric)
        exact = metric(ranks)
        # An orthonormal basis of the features of the audit; leverages are its rows' squares.
        left, singular, right = np.linalg.svd(features[rows], full_matrices=False)
        used = singular > singular[0] * 1e-9
        basis = left[:, used]
        weights = right[used].T @ ((basis.T @ exact) / singular[used])
        residuals = exact - features[rows] @ weights
        value = float((features @ weights).mean() + residuals.mean())
        # Of what a regression without the query itself would have missed by (HC3), since small
        # audits fit their own queries too well.
        residuals /= np.maximum(1 - np.square(basis).sum(axis=1), 1e-9)
        a, m = len(rows), len(features)
        squares = float(residuals @ residuals) + _INVENTED_SQUARES
        variance = squares / a * (1 - a / m) / a
        z = _quantile(confidence)
        z += (z**3 + z) / (4 * (a - int(used.sum())))  # Student's t, to the first order
        return _score_interval(value, variance, a, m, z)

    def _features(self, metric: Callable[[_Ranks], _Ranks]) -> NDArray[np.float64]:
        """Give what predicts a metric of the full ranking, shape (m, p)."""
        above = self.num_above + self.num_tied / 2
        return np.stack(
            [
                np.ones(len(above)),
                metric(self.scaled_ranks),
                above == 0,
                1 / (1 + above),
            ],
            axis=1,
        )


def _quantile(confidence: float) -> float:
    """Return the number of standard errors that an interval reaches to each side."""
    if not 0 < confidence < 1:
        raise InvalidRequestError(f"confidence={confidence} is not legal: give one from 0 to 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _score_interval(value: float, variance: float, a: int, m: int, z: float) -> Estimate:
    """Make the score interval of a mean of values from 0 to 1 (Wilson, 1927).

    It is not symmetric: an audit with few hits tells more of how low than of how high the share can
    be. The sample size is the effective one: that of a plain sample, of hits and misses, with the
    same variance.

    :param variance: of the estimate
    :param a: number of audited queries, of m
    :param z: standard errors to each side
    """
    if a == m:
        return Estimate(value, value, value, 0.0)
    middle = min(max(value, 0.0), 1.0)
    size = a / (1 - a / m)
    if variance > 0:
        size = max(size, middle * (1 - middle) / variance)
    centre = (middle + z**2 / (2 * size)) / (1 + z**2 / size)
    spread = max(variance, middle * (1 - middle) / size) + z**2 / (4 * size**2)
    reach = z / (1 + z**2 / size) * math.sqrt(spread)
    return Estimate(value, max(0.0, centre - reach), min(1.0, centre + reach), math.sqrt(variance))


def audit_rows(num_queries: int, num_audited: int, seed: int) -> NDArray[np.int64]:
    """Choose queries to rank fully: a pure function, the same on any machine.

    Those with the smallest of ``num_queries`` words of numpy's raw Philox stream of the seed.

    :param num_audited: at most ``num_queries``
    :return: distinct rows, ascending, shape (num_audited,)
    :raises InvalidRequestError: for another number
    """
    check_integer("num_audited", num_audited, 0, num_queries)
    check_integer("seed", seed, 0, 2**64 - 1)
    words = np.random.Philox(key=seed).random_raw(num_queries)
    rows: NDArray[np.int64] = np.sort(np.argsort(words, kind="stable")[:num_audited])
    return rows


def count_possible(
    graph: TriplesFactory, positives: ArrayLike, side: Slot, splits: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Count the candidates of the full filtered ranking of each query, without the true answer.

    That is the number of all ids less that of the known ones and of the true answer.

    :param positives: integer ids, shape (m, 3)
    :param side: the slot that is asked for
    :param splits: whose triples are known; None for all of the graph
    :return: int64, shape (m,)
    :raises InvalidRequestError: for ids outside the graph
    """
    triples = as_triples(positives)
    chosen = splits_to_filter(graph, splits)
    kept = [column for column, slot in enumerate(SLOTS) if slot != side]
    counts = graph.known(triples[:, kept], side, chosen).counts
    is_known = graph.contains(triples, chosen)
    num_ids = graph.num_relations if side == "relation" else graph.num_entities
    return num_ids - counts - ~is_known
