"""Counts of the training triples per relation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.types.answers.relation_statistics import RelationStatistics
from negserve_server.sampling.candidates import packed_pairs
from negserve_server.triple_columns import TripleColumns

#: Triples that are counted at a time.
_BLOCK = 2**20


def count_distinct(
    relations: NDArray[np.integer], ids: NDArray[np.integer], num_relations: int
) -> NDArray[np.int64]:
    """Count the distinct ids per relation; shapes (n,), (n,) to (num_relations,)."""
    packed = packed_pairs(relations, ids)
    counts = np.zeros(num_relations, dtype=np.int64)
    for first in range(0, len(packed), _BLOCK):
        found = (packed[first : first + _BLOCK] >> np.uint64(32)).astype(np.int64)
        counts += np.bincount(found, minlength=num_relations)
    return counts


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RelationCounts:
    """Counts per relation id, each int64 of shape (num_relations,).

    :ivar num_triples: distinct training triples
    :ivar num_heads: distinct heads
    :ivar num_tails: distinct tails
    """

    num_triples: NDArray[np.int64]
    num_heads: NDArray[np.int64]
    num_tails: NDArray[np.int64]

    @classmethod
    def of(cls, triples: TripleColumns, num_relations: int) -> RelationCounts:
        """Count over distinct triples."""
        relations = triples.relations
        return cls(
            num_triples=np.bincount(relations, minlength=num_relations),
            num_heads=count_distinct(relations, triples.heads, num_relations),
            num_tails=count_distinct(relations, triples.tails, num_relations),
        )

    @staticmethod
    def num_bytes(num_relations: int) -> int:
        """Memory of the counts of so many relations, in bytes."""
        return 24 * num_relations

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.num_triples.nbytes + self.num_heads.nbytes + self.num_tails.nbytes

    def run(self, first: int, end: int) -> RelationCounts:
        """Return the counts of consecutive relations, without a copy."""
        run = slice(first, end)
        return RelationCounts(self.num_triples[run], self.num_heads[run], self.num_tails[run])

    def statistics(self) -> RelationStatistics:
        """Return the statistics that follow from the counts.

        tph / (tph + hpt) = (n/H) / (n/H + n/T) = T / (H + T) with H heads and T tails, so
        integers are enough and every implementation gets the same bits.
        """
        heads = np.maximum(self.num_heads, 1).astype(np.uint64)
        tails = np.maximum(self.num_tails, 1).astype(np.uint64)
        return RelationStatistics(
            tails_per_head=_ratio(self.num_triples, self.num_heads),
            heads_per_tail=_ratio(self.num_triples, self.num_tails),
            head_probability=((tails << np.uint64(32)) // (heads + tails)) / 2.0**32,
        )


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
