"""Integer weights of ids, and the tables with which a unit finds its owner."""

from __future__ import annotations

import decimal
import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from negserve_server.index import PairIndex
from negserve_server.index.known_lists import first_value
from negserve_server.index.pair_directory import MAX_PAIRS, find_lists, num_buckets_of
from negserve_server.jit.addresses import load_uint32
from negserve_server.jit.compiled import compiled
from negserve_server.sampling.kernels.records.cell_table import NO_RANK_32

#: Units of all ids together, at most: a unit is a uint32, and so is their number.
_MAX_UNITS = 2**32 - 1
_DIGITS = 50

#: Buckets of the guide table per candidate, at least.
_BUCKETS_PER_RANK = 2


@dataclass(frozen=True, slots=True)
class Frequencies:
    """How often ids occur.

    :ivar values: distinct frequencies, ascending, shape (m,)
    :ivar owners: which of them each id has, shape (n,)
    :ivar num_ids: how many ids have each, shape (m,)
    """

    values: NDArray[np.int64]
    owners: NDArray[np.int64]
    num_ids: NDArray[np.int64]

    @classmethod
    def of(cls, frequencies: NDArray[np.int64]) -> Frequencies:
        """Take the frequencies of ids, shape (n,)."""
        return cls(*np.unique(frequencies, return_inverse=True, return_counts=True))

    def units(self, alpha: float) -> NDArray[np.int64]:
        """Give the units of an id of each frequency, see :func:`degree_weights`; shape (m,)."""
        with decimal.localcontext(decimal.Context(prec=_DIGITS)):
            exponent = decimal.Decimal(alpha)
            # Exact from here on: another order of roundings could lose a unit.
            powers = [
                Fraction(decimal.Decimal(int(f)) ** exponent if alpha else 1) for f in self.values
            ]
        pairs = list(zip(powers, self.num_ids, strict=True))
        num_candidates = sum(int(n) for power, n in pairs if power > 0)
        total = sum((power * int(n) for power, n in pairs), Fraction(0))
        room = _MAX_UNITS - num_candidates
        units = [max(1, math.floor(power * room / total)) if power > 0 else 0 for power in powers]
        return np.array(units, dtype=np.int64)


def degree_weights(frequencies: NDArray[np.int64], alpha: float) -> NDArray[np.int64]:
    """Give each id its units: its frequency to the power alpha, scaled to 2^32 units in all.

    Powers are rounded to 50 decimal digits, and all else is exact, so that every machine gets
    the same integers.

    :param frequencies: shape (n,); 0 gives weight 0 unless alpha is 0
    :return: units, shape (n,); their sum is below 2^32
    """
    distinct = Frequencies.of(frequencies)
    units: NDArray[np.int64] = distinct.units(alpha)[distinct.owners]
    return units


def ranking_key(units: NDArray[np.int64]) -> bytes:
    """Tell rankings of the same ids apart, by the units of an id of each frequency.

    The order of ids depends on which frequencies have more units than others, or none, and on
    nothing else of the exponent: exponents share it, but for 0, and for those so high that several
    of the lowest frequencies have one unit.
    """
    values, order = np.unique(units, return_inverse=True)
    return hashlib.sha256(order.astype("<u4").tobytes() + bytes([int(values[0]) == 0])).digest()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Ranking:
    """Candidates in the order of their weights, whatever those are.

    :ivar ids: uint32, shape (n,): candidates by weight descending, then by id
    :ivar ranks: uint32, shape (num_ids,): rank of each id, ``NO_RANK_32`` without weight
    """

    ids: NDArray[np.uint32]
    ranks: NDArray[np.uint32]

    @classmethod
    def of(cls, units: NDArray[np.int64]) -> Ranking:
        """Order ids by their units, shape (num_ids,); at least one has some."""
        order = np.argsort(-units, kind="stable")[: np.count_nonzero(units)].astype(np.uint32)
        ranks = np.full(len(units), NO_RANK_32, dtype=np.uint32)
        ranks[order] = np.arange(len(order), dtype=np.uint32)
        return cls(order, ranks)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.ids.nbytes + self.ranks.nbytes


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Weights:
    """Units of ranked candidates.

    :ivar ranking: the candidates
    :ivar unit_starts: uint32, shape (n + 1,): where the units of each rank begin
    :ivar guide: uint32: per bucket of units, the rank that owns its first one; one more at the
        end
    :ivar guide_shift: width of a bucket as a power of two
    :ivar guide_steps: halvings that search any bucket
    """

    ranking: Ranking
    unit_starts: NDArray[np.uint32]
    guide: NDArray[np.uint32]
    guide_shift: int
    guide_steps: int

    @classmethod
    def of(cls, units: NDArray[np.int64], ranking: Ranking) -> Weights:
        """Take the units of ids, shape (num_ids,), and their ranking."""
        num_ranks = len(ranking.ids)
        unit_starts = np.zeros(num_ranks + 1, dtype=np.int64)
        np.cumsum(units[ranking.ids], out=unit_starts[1:])
        num_units = int(unit_starts[-1])
        shift = 0
        while (num_units >> (shift + 1)) >= _BUCKETS_PER_RANK * num_ranks:
            shift += 1
        begins = np.arange(((num_units - 1) >> shift) + 1) << shift
        guide = np.searchsorted(unit_starts[:-1], begins, side="right") - 1
        guide = np.append(guide, num_ranks - 1)
        return cls(
            ranking=ranking,
            unit_starts=unit_starts.astype(np.uint32),
            guide=guide.astype(np.uint32),
            guide_shift=shift,
            guide_steps=int(np.diff(guide).max(initial=0)).bit_length(),
        )

    @staticmethod
    def least_bytes(num_ranks: int) -> int:
        """Say what the weights of so many candidates take at least."""
        return 4 * (num_ranks + 1) + 4 * _BUCKETS_PER_RANK * num_ranks

    @property
    def nbytes(self) -> int:
        """Memory held besides the ranking, in bytes."""
        return self.unit_starts.nbytes + self.guide.nbytes

    def units_before(self, index: PairIndex) -> NDArray[np.uint32]:
        """Cumulate units along the lists of an index of ranks.

        :return: at the place of each value in ``index.lists``, the units of the values before
            it in its list
        """
        before = np.zeros(len(index.lists), dtype=np.uint32)
        _cumulate(*index.address, self.unit_starts, before)
        return before


@compiled
def _cumulate(
    directory: int,
    lists: int,
    layout: int,
    multiplier: int,  # noqa: ARG001 (an index is always given whole)
    unit_starts: NDArray[np.uint32],
    before: NDArray[np.uint32],
) -> None:
    starts, lengths = np.empty(MAX_PAIRS, dtype=np.uint64), np.empty(MAX_PAIRS, dtype=np.uint64)
    for bucket in range(num_buckets_of(layout)):
        for i in range(find_lists(directory, lists, layout, bucket, starts, lengths)):
            start, length = starts[i], lengths[i]
            first = first_value(lists, start, length)
            total = np.int64(0)
            for at in range(first, first + length):
                before[at] = total
                rank = np.int64(load_uint32(lists, at))
                total += np.int64(unit_starts[rank + 1]) - np.int64(unit_starts[rank])
