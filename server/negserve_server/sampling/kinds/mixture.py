"""Kind ``mixture``: several other kinds by share; each slot has a cell per part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mixed_shares(parts: Sequence[NDArray[np.uint64]], shares: Sequence[int]) -> NDArray[np.uint64]:
    """Mix cumulative shares of slots.

    A kind alone is a mixture of one part.

    :param parts: cumulative shares of the slots of each part in units of 2^-32, shape (n, slots)
    :param shares: the share of each part
    :return: cumulative shares of the cells in units of 2^-32, by slot, then by part; shape
        (n, slots * parts)
    """
    widths = [
        np.diff(cumulative, axis=1, prepend=np.uint64(0)) * np.uint64(share)
        for cumulative, share in zip(parts, shares, strict=True)
    ]
    cells = np.stack(widths, axis=2).reshape(len(parts[0]), -1)
    return np.cumsum(cells, axis=1) // np.uint64(sum(shares))
