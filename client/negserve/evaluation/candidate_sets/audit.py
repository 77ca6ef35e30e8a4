"""Estimates of the full ranking from predictions for all queries and an audit of few."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.types.checks.invalid import check_integer

#: Fewest audited queries: with fewer, the normal approximation of the interval is poor.
MIN_AUDITED = 100

#: Four invented errors of 1/2, squared. An audit without a rare success does not know how rare it
#: is (the "plus four" of Agresti and Coull, 1998).
_INVENTED_SQUARES = 4 * 0.5**2

_Floats = NDArray[np.float64]
#: Of realistic ranks, from 1 on, gives the metric of each.
Metric = Callable[[_Floats], _Floats]


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


def metrics_of(hits: Sequence[int]) -> dict[str, Metric]:
    """Give mean reciprocal rank and hits@k by name.

    :raises InvalidRequestError: for a k below 1
    """
    metrics: dict[str, Metric] = {"mrr": np.reciprocal}
    for k in hits:
        check_integer("hits", k, 1, 2**32)
        metrics[f"hits@{k}"] = lambda ranks, k=k: (ranks <= k).astype(np.float64)  # type: ignore[misc]
    return metrics


def audited_metrics(
    predictors: Callable[[Metric], _Floats],
    num_possible: NDArray[np.int64],
    rows: ArrayLike,
    ranks: ArrayLike,
    hits: Sequence[int],
    confidence: float,
) -> Mapping[str, Estimate]:
    """Estimate mean reciprocal rank and hits@k of the full ranking with an audit.

    :param predictors: of a metric gives what predicts it for each query, shape (m, p)
    :param num_possible: candidates of the full ranking, shape (m,)
    :param rows: as of :meth:`SampledRanks.audited`, as are the others
    :raises InvalidRequestError: for rows that are no queries or repeated, ranks below 1 or above
        what is possible, and too few of them
    """
    at, exact = np.asarray(rows), np.asarray(ranks, dtype=np.float64)
    _check(at, exact, num_possible)
    return {
        name: _regress(predictors(metric), at, metric(exact), confidence)
        for name, metric in metrics_of(hits).items()
    }


def _check(rows: NDArray[np.int64], ranks: _Floats, num_possible: NDArray[np.int64]) -> None:
    if rows.ndim != 1 or rows.shape != ranks.shape or len(rows) < MIN_AUDITED:
        raise InvalidRequestError(
            f"rows have shape {rows.shape}, ranks {ranks.shape}; give at least {MIN_AUDITED} "
            f"queries and a rank of each: with fewer the interval would mislead"
        )
    m = len(num_possible)
    if not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0 or rows.max() >= m:
        raise InvalidRequestError(f"rows must be indexes of the {m} queries, 0 to {m - 1}")
    if len(np.unique(rows)) < len(rows):
        raise InvalidRequestError("rows have a query twice; audit each query once")
    wrong = ~((ranks >= 1) & (ranks <= num_possible[rows] + 1))
    if wrong.any():
        i = int(wrong.argmax())
        raise InvalidRequestError(
            f"rank {ranks[i]} of query {rows[i]} is not from 1 to "
            f"{num_possible[rows[i]] + 1}; give ranks of the same filtered candidates"
        )


def _regress(
    features: _Floats, rows: NDArray[np.int64], exact: _Floats, confidence: float
) -> Estimate:
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
    z = quantile(confidence)
    z += (z**3 + z) / (4 * (a - int(used.sum())))  # Student's t, to the first order
    return _score_interval(value, variance, a, m, z)


def quantile(confidence: float) -> float:
    """Return the number of standard errors that an interval reaches to each side."""
    if not 0 < confidence < 1:
        raise InvalidRequestError(f"confidence={confidence} is not legal: give one from 0 to 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def bounded(value: float, error: float, z: float) -> Estimate:
    """Make an interval of a metric from 0 to 1, of z standard errors to each side."""
    return Estimate(value, max(0.0, value - z * error), min(1.0, value + z * error), error)


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
