"""The compact form of a corrupted batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CorruptedBatch:
    """Negatives of n positives: what was replaced, not whole triples.

    The k negatives of a positive are grouped by slot: first ``head_counts[i]`` with the head
    replaced, then ``relation_counts[i]`` with the relation replaced, then the tails.

    :ivar position: position of the first positive
    :ivar replaced: new values, shape (rows, k), the narrowest unsigned dtype of the id space;
        one row a positive, or one a chunk: the row of positive i is
        ``(position + i) // chunk_size - position // chunk_size``
    :ivar head_counts: shape (n,), uint32
    :ivar relation_counts: shape (n,), uint32
    :ivar mask: shape (n, k), True where valid; None if no negative can be invalid
    :ivar num_saturated: positives with fewer legal values than needed; see ``docs/sampling.md``
    :ivar chunk_size: how many consecutive positions share a row
    :ivar log_q: natural logarithm of the probability of each negative, float32, shape (n, k);
        None if the configuration does not ask for it
    """

    position: int
    replaced: NDArray[np.unsignedinteger]
    head_counts: NDArray[np.uint32]
    relation_counts: NDArray[np.uint32]
    mask: NDArray[np.bool_] | None
    num_saturated: int
    chunk_size: int = 1
    log_q: NDArray[np.float32] | None = None


def narrowest_dtype(num_ids: int) -> np.dtype[np.unsignedinteger]:
    """Give the narrowest unsigned dtype that holds the ids 0 to ``num_ids`` - 1."""
    return np.min_scalar_type(max(num_ids - 1, 0))
