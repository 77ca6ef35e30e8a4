"""Metrics of the full ranking, estimated from candidates of every query and from few full ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.candidate_sets.audit import Estimate, Metric, audited_metrics, quantile
from negserve.evaluation.evaluated_graph import splits_to_filter
from negserve.types.config import SLOTS, Slot
from negserve.types.triples import as_triples
from negserve.types.triples_factory import TriplesFactory

_Ranks = NDArray[np.float64]


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
        reach = quantile(confidence) * error
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
        return audited_metrics(self._predictors, self.num_possible, rows, ranks, hits, confidence)

    def _predictors(self, metric: Metric) -> NDArray[np.float64]:
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
