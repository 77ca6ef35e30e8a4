"""The compact form of negatives: what was replaced, not whole triples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CorruptedBatch:
    """Negatives of n positives, k each.

    The k negatives of a positive are grouped by slot: first ``head_counts[i]`` with the head
    replaced, then ``relation_counts[i]`` with the relation replaced, then the tails.

    :ivar position: position of the first positive
    :ivar replaced: new values, shape (n, k), uint8, uint16 or uint32
    :ivar head_counts: shape (n,), an unsigned dtype
    :ivar relation_counts: shape (n,), an unsigned dtype
    :ivar mask: bool, shape (n, k), True where valid; None if the sampler does not filter
    :ivar num_saturated: positives without any legal negative; theirs are masked
    """

    position: int
    replaced: NDArray[np.unsignedinteger]
    head_counts: NDArray[np.unsignedinteger]
    relation_counts: NDArray[np.unsignedinteger]
    mask: NDArray[np.bool_] | None
    num_saturated: int

    def slots(self) -> NDArray[np.uint8]:
        """Give the replaced column of each negative, 0 head, 1 relation, 2 tail; shape (n, k)."""
        j = np.arange(self.replaced.shape[1])
        head_end = self.head_counts.astype(np.int64)[:, None]
        relation_end = head_end + self.relation_counts.astype(np.int64)[:, None]
        return (j >= head_end).astype(np.uint8) + (j >= relation_end).astype(np.uint8)

    def triples(self, positives: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Rebuild whole triples.

        :param positives: the positives that were corrupted, shape (n, 3)
        :return: shape (n, k, 3)
        """
        n, k = self.replaced.shape
        triples = np.empty((n, k, 3), dtype=np.int64)
        triples[:] = np.asarray(positives)[:, None, :]
        slots = self.slots()
        for column in range(3):
            np.copyto(triples[:, :, column], self.replaced, where=slots == column)
        return triples
