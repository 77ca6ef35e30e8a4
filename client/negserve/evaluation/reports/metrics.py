"""Metrics over ranks, by PyKEEN's names.

A metric makes one number of the ranks of many queries. Adjusted metrics compare it with what random
scores would give, whose ranks are uniform over the candidates of each query: so they need the
number of candidates, and are defined for realistic ranks.

- ``inverse_harmonic_mean_rank``: MRR, the mean of 1/rank. It is not
  ``inverse_arithmetic_mean_rank``, which is 1/MR.
- ``hits_at_<k>``: share of queries with rank <= k (Bordes et al., NeurIPS 2013)
- ``arithmetic_mean_rank``: MR (Bordes et al. 2013)
- ``adjusted_arithmetic_mean_rank``: MR / E[MR] (Berrendorf et al. 2020, arXiv:2002.06914)
- ``adjusted_arithmetic_mean_rank_index``: AMRI, 1 - (MR - 1) / (E[MR] - 1) (Berrendorf et al. 2020)
- other ``adjusted_`` metrics: (M - E[M]) / (1 - E[M]) (Hoyt et al. 2022, arXiv:2203.07544)
- ``z_`` metrics: (M - E[M]) / std[M], signed so that higher is better (Hoyt et al. 2022)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.terminal.nearest import did_you_mean

_Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]

#: Smallest divisor: with one candidate a metric can't vary, and PyKEEN divides by this.
_EPSILON = 1e-12
#: Median absolute deviation of a standard normal variable: with it, MAD estimates its deviation.
_NORMAL_MAD = 0.6744897501960817
_HITS = re.compile(r"(?P<prefix>|adjusted_|z_)hits_at_(?P<k>[1-9][0-9]*)")


@dataclass(frozen=True)
class _Base:
    """A metric whose distribution under random scores is known.

    :ivar of: its value for ranks
    :ivar expectation: its mean for numbers of candidates
    :ivar variance: its variance, likewise
    :ivar is_increasing: whether a higher value is better
    """

    of: Callable[[_Floats], float]
    expectation: Callable[[_Counts], float]
    variance: Callable[[_Counts], float]
    is_increasing: bool


def _geometric_mean(ranks: _Floats) -> float:
    return math.exp(float(np.log(ranks).mean()))


def _harmonic_mean(ranks: _Floats) -> float:
    return 1 / float((1 / ranks).mean())


def _median_deviation(ranks: _Floats) -> float:
    return float(np.median(np.abs(ranks - np.median(ranks)))) / _NORMAL_MAD


def _log_power_means(candidates: _Counts, power: float) -> _Floats:
    """Give the log of E[rank^power] of each query, for powers near 0, shape (n,)."""
    powers = np.arange(1, candidates.max() + 1, dtype=np.float64) ** power
    return np.log(np.cumsum(powers)[candidates - 1]) - np.log(candidates)


def _geometric_expectation(candidates: _Counts) -> float:
    return math.exp(float(_log_power_means(candidates, 1 / len(candidates)).sum()))


def _geometric_variance(candidates: _Counts) -> float:
    square = math.exp(float(_log_power_means(candidates, 2 / len(candidates)).sum()))
    return max(square - _geometric_expectation(candidates) ** 2, 0.0)


def _reciprocal_expectation(candidates: _Counts) -> float:
    return float(_reciprocal_moments(candidates, 1).mean())


def _reciprocal_variance(candidates: _Counts) -> float:
    mean, square = (_reciprocal_moments(candidates, power) for power in (1, 2))
    return float(np.maximum(square - mean**2, 0).mean()) / len(candidates)


def _reciprocal_moments(candidates: _Counts, power: int) -> _Floats:
    """Give E[rank^-power] of each query, shape (n,)."""
    sums = np.cumsum(np.arange(1, candidates.max() + 1, dtype=np.float64) ** -power)
    moments: _Floats = sums[candidates - 1] / candidates
    return moments


_ARITHMETIC = _Base(
    of=lambda ranks: float(ranks.mean()),
    expectation=lambda candidates: float((candidates + 1).mean()) / 2,
    variance=lambda candidates: (
        float((candidates.astype(np.float64) ** 2 - 1).mean()) / 12 / len(candidates)
    ),
    is_increasing=False,
)
_GEOMETRIC = _Base(_geometric_mean, _geometric_expectation, _geometric_variance, False)
_RECIPROCAL = _Base(
    lambda ranks: float((1 / ranks).mean()), _reciprocal_expectation, _reciprocal_variance, True
)


def _hits(k: int) -> _Base:
    def share(candidates: _Counts) -> _Floats:
        return np.minimum(k / candidates, 1)

    return _Base(
        of=lambda ranks: float((ranks <= k).mean()),
        expectation=lambda candidates: float(share(candidates).mean()),
        variance=lambda candidates: (
            float((share(candidates) * (1 - share(candidates))).mean()) / len(candidates)
        ),
        is_increasing=True,
    )


_PLAIN: dict[str, Callable[[_Floats], float]] = {
    "arithmetic_mean_rank": _ARITHMETIC.of,
    "count": lambda ranks: float(len(ranks)),
    "geometric_mean_rank": _geometric_mean,
    "harmonic_mean_rank": _harmonic_mean,
    "inverse_arithmetic_mean_rank": lambda ranks: 1 / float(ranks.mean()),
    "inverse_geometric_mean_rank": lambda ranks: 1 / _geometric_mean(ranks),
    "inverse_harmonic_mean_rank": _RECIPROCAL.of,
    "inverse_median_rank": lambda ranks: 1 / float(np.median(ranks)),
    "median_absolute_deviation": _median_deviation,
    "median_rank": lambda ranks: float(np.median(ranks)),
    "standard_deviation": lambda ranks: float(ranks.std()),
    "variance": lambda ranks: float(ranks.var()),
}


def _ratio(base: _Base, ranks: _Floats, candidates: _Counts) -> float:
    return base.of(ranks) / base.expectation(candidates)


def _index(base: _Base, ranks: _Floats, candidates: _Counts) -> float:
    """Shift and scale a metric: 0 for random scores, 1 for all ranks 1."""
    mean = base.expectation(candidates)
    return (base.of(ranks) - mean) / _divisor(1 - mean)


def _z_score(base: _Base, ranks: _Floats, candidates: _Counts) -> float:
    difference = base.of(ranks) - base.expectation(candidates)
    score = difference / _divisor(math.sqrt(base.variance(candidates)))
    return score if base.is_increasing else -score


def _divisor(value: float) -> float:
    return math.copysign(max(abs(value), _EPSILON), value)


_ADJUSTED = {
    "adjusted_arithmetic_mean_rank": (_ratio, _ARITHMETIC),
    "adjusted_arithmetic_mean_rank_index": (_index, _ARITHMETIC),
    "adjusted_geometric_mean_rank_index": (_index, _GEOMETRIC),
    "adjusted_inverse_harmonic_mean_rank": (_index, _RECIPROCAL),
    "z_arithmetic_mean_rank": (_z_score, _ARITHMETIC),
    "z_geometric_mean_rank": (_z_score, _GEOMETRIC),
    "z_inverse_harmonic_mean_rank": (_z_score, _RECIPROCAL),
}
#: All metrics, with usual numbers for the k of ``hits_at_<k>``.
METRIC_NAMES = tuple(
    sorted(
        [*_PLAIN, *_ADJUSTED]
        + [f"{prefix}hits_at_{k}" for prefix in ("", "adjusted_", "z_") for k in (1, 3, 5, 10)]
    )
)


def needs_candidates(name: str) -> bool:
    """Tell whether a metric compares with random scores, which is for realistic ranks only.

    :raises InvalidRequestError: for another name than METRIC_NAMES and ``hits_at_<k>``
    """
    _check_name(name)
    return name.startswith(("adjusted_", "z_"))


def metric(name: str, ranks: ArrayLike, num_candidates: ArrayLike | None = None) -> float:
    """Compute a metric of ranks, in float64.

    :param name: one of METRIC_NAMES; ``hits_at_<k>``, also adjusted, for any k from 1 on
    :param ranks: from 1, numbers, shape (n,), n at least 1
    :param num_candidates: of each query, with the target, integers from 1, shape (n,); needed by
        ``adjusted_`` and ``z_`` metrics
    :raises InvalidRequestError: for another name, no ranks, ranks below 1, another shape, and if
        the numbers of candidates are missing
    """
    needs = needs_candidates(name)
    values = np.asarray(ranks, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not (values >= 1).all():
        raise InvalidRequestError(
            f"ranks have shape {values.shape}; give at least one, all from 1 on, shape (n,)"
        )
    if not needs:
        hits = _HITS.fullmatch(name)
        return _PLAIN[name](values) if hits is None else _hits(int(hits["k"])).of(values)
    counts = np.asarray(num_candidates if num_candidates is not None else (), dtype=np.int64)
    if counts.shape != values.shape or not (counts >= 1).all():
        raise InvalidRequestError(
            f"num_candidates have shape {counts.shape}; {name} needs the number of candidates of "
            f"each query, from 1 on, shape {values.shape}"
        )
    if (hits := _HITS.fullmatch(name)) is None:
        adjust, base = _ADJUSTED[name]
    else:
        adjust = _index if hits["prefix"] == "adjusted_" else _z_score
        base = _hits(int(hits["k"]))
    return adjust(base, values, counts)


def _check_name(name: str) -> None:
    if name not in METRIC_NAMES and _HITS.fullmatch(name) is None:
        raise InvalidRequestError(
            f"there is no metric {name!r}{did_you_mean(name, METRIC_NAMES)}; "
            f"negserve.evaluation.METRIC_NAMES has all"
        )
