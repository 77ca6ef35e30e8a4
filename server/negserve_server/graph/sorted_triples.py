"""Looking triples up among sorted ones, where no index is to be built for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def are_among(triples: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell for each triple whether it is one of the rows, by bisection.

    :param triples: shape (n, 3)
    :param rows: sorted by head, relation, tail, shape (m, 3)
    :return: shape (n,)
    """
    if len(rows) == 0:
        return np.zeros(len(triples), dtype=np.bool_)
    low = np.zeros(len(triples), dtype=np.int64)
    high = np.full(len(triples), len(rows), dtype=np.int64)
    for _ in range(len(rows).bit_length()):
        middle = (low + high) // 2
        is_before = _are_before(rows[np.minimum(middle, len(rows) - 1)], triples) & (low < high)
        low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, middle)
    found: NDArray[np.bool_] = (rows[np.minimum(low, len(rows) - 1)] == triples).all(axis=1)
    return found


def _are_before(rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    less, equal = rows < others, rows == others
    before: NDArray[np.bool_] = less[:, 0] | (
        equal[:, 0] & (less[:, 1] | (equal[:, 1] & less[:, 2]))
    )
    return before
