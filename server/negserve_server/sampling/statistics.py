"""Per-relation statistics of the training triples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.candidates import distinct_pairs


def count_distinct(
    triples: NDArray[np.integer], column: int, num_relations: int
) -> NDArray[np.int64]:
    """Count, per relation, the distinct ids in a column of the triples; shape (num_relations,)."""
    pairs = distinct_pairs(triples[:, 1], triples[:, column])
    return np.bincount(pairs[:, 0], minlength=num_relations)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RelationStatistics:
    """Counts per relation id, each int64 of shape (num_relations,).

    :ivar num_triples: distinct training triples
    :ivar num_heads: distinct heads
    :ivar num_tails: distinct tails
    """

    num_triples: NDArray[np.int64]
    num_heads: NDArray[np.int64]
    num_tails: NDArray[np.int64]

    @classmethod
    def of(cls, triples: NDArray[np.int64], num_relations: int) -> RelationStatistics:
        """Count over distinct triples, shape (n, 3)."""
        return cls(
            num_triples=np.bincount(triples[:, 1], minlength=num_relations),
            num_heads=count_distinct(triples, 0, num_relations),
            num_tails=count_distinct(triples, 2, num_relations),
        )

    @staticmethod
    def num_bytes(num_relations: int) -> int:
        """Say what those of so many relations take."""
        return 24 * num_relations

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.num_triples.nbytes + self.num_heads.nbytes + self.num_tails.nbytes

    def run(self, first: int, end: int) -> RelationStatistics:
        """Give those of some consecutive relations, without a copy."""
        run = slice(first, end)
        return RelationStatistics(self.num_triples[run], self.num_heads[run], self.num_tails[run])

    @property
    def tails_per_head(self) -> NDArray[np.float64]:
        """tph, triples per distinct head; NaN for a relation without triples."""
        return _ratio(self.num_triples, self.num_heads)

    @property
    def heads_per_tail(self) -> NDArray[np.float64]:
        """hpt, triples per distinct tail; NaN for a relation without triples."""
        return _ratio(self.num_triples, self.num_tails)

    @property
    def head_share(self) -> NDArray[np.uint64]:
        """Probability of replacing the head, in units of 2^-32; see :attr:`head_probability`.

        tph / (tph + hpt) = (n/H) / (n/H + n/T) = T / (H + T) with H heads and T tails, so
        integers are enough and every implementation gets the same bits.
        """
        heads = np.where(self.num_triples > 0, self.num_heads, 1).astype(np.uint64)
        tails = np.where(self.num_triples > 0, self.num_tails, 1).astype(np.uint64)
        return (tails << np.uint64(32)) // (heads + tails)

    @property
    def head_probability(self) -> NDArray[np.float64]:
        """Tph / (tph + hpt) (Wang et al., AAAI 2014), rounded down to a multiple of 2^-32.

        0.5 for a relation without triples.
        """
        return self.head_share / 2.0**32


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
