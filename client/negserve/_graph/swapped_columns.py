"""Detection of triples whose columns are not head, relation, tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Columns with fewer distinct ids tell nothing.
_FEW_IDS = 64


def why_swapped(triples: NDArray[np.uint32]) -> str | None:
    """Say why columns look swapped; None if they do not.

    A graph has few relations, and its heads and tails are the same entities. So the middle column
    looks wrong if it has more distinct ids than both others, or at least twice as many as one of
    them while the other one's ids are spread alike.

    :param triples: shape (n, 3)
    """
    if len(triples) == 0:
        return None
    ends = triples.max(axis=0).astype(np.int64) + 1
    counts = [_num_distinct(column, end) for column, end in zip(triples.T, ends, strict=True)]
    first, middle, last = counts
    if middle < _FEW_IDS:
        return None
    sizes = f"the columns have {first}, {middle} and {last} distinct ids"
    if middle > max(first, last):
        return f"{sizes}, the most in the middle"
    for name, few, alike in (("last", 2, 0), ("first", 0, 2)):
        if 2 * counts[few] <= middle and ends[1] <= 2 * ends[alike] <= 4 * ends[1]:
            return f"{sizes}, the {name} one has the fewest"
    return None


def _num_distinct(column: NDArray[np.uint32], end: int) -> int:
    if end > 16 * len(column):  # one flag an id would take more memory than the ids
        return len(np.unique(column))
    occurs = np.zeros(end, dtype=np.bool_)
    occurs[column] = True
    return int(np.count_nonzero(occurs))
