"""Triples as three columns, each as narrow as its id space needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.types.fingerprint import fingerprint_of_blocks
from negserve.types.triples import narrowest_dtype

_Scalar = TypeVar("_Scalar", bound=np.generic)

Column = NDArray[np.unsignedinteger]

#: Rows that are made at a time, where all are needed one after the other: 1.5 MB.
_BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class TripleColumns:
    """Distinct triples inside an id space, sorted by head, relation, tail.

    With up to 65536 entities and 256 relations a triple takes 5 bytes, where int64 takes 24. The
    columns may be mapped from files. Immutable and safe to use from many threads.

    :ivar heads: uint8, uint16 or uint32, shape (n,)
    :ivar relations: likewise
    :ivar tails: likewise
    """

    heads: Column
    relations: Column
    tails: Column

    @classmethod
    def of(
        cls, triples: NDArray[np.integer], num_entities: int, num_relations: int
    ) -> TripleColumns:
        """Sort triples inside the id space, shape (n, 3), and drop repetitions."""
        return cls.sorted(triples[:, 0], triples[:, 1], triples[:, 2], num_entities, num_relations)

    @classmethod
    def sorted(
        cls,
        heads: NDArray[np.integer],
        relations: NDArray[np.integer],
        tails: NDArray[np.integer],
        num_entities: int,
        num_relations: int,
    ) -> TripleColumns:
        """Sort triples and drop repetitions; needs 8 bytes a triple besides the result.

        :param heads: ids below ``num_entities``, shape (n,), and so on
        """
        columns = (heads, relations, tails)
        dtypes = [narrowest_dtype(size) for size in (num_entities, num_relations, num_entities)]
        if len(heads) == 0:
            return cls(*(np.empty(0, dtype) for dtype in dtypes))
        bits = [max(int(column.max()).bit_length(), 1) for column in columns]
        if sum(bits) > 64:
            order = np.lexsort((tails, relations, heads))
            pairs = zip(columns, dtypes, strict=True)
            ordered = [column[order].astype(dtype) for column, dtype in pairs]
            is_new = np.ones(len(order), dtype=np.bool_)
            is_new[1:] = np.any([column[1:] != column[:-1] for column in ordered], axis=0)
            return cls(*(_frozen(column[is_new]) for column in ordered))
        # One sort of packed keys is many times faster than sorting rows.
        packed = heads.astype(np.uint64)
        for column, width in zip(columns[1:], bits[1:], strict=True):
            packed <<= np.uint64(width)
            np.bitwise_or(packed, column, out=packed, dtype=np.uint64, casting="unsafe")
        packed.sort()
        is_new = np.ones(len(packed), dtype=np.bool_)
        np.not_equal(packed[1:], packed[:-1], out=is_new[1:])
        if not is_new.all():
            packed = packed[is_new]
        del is_new
        out = [np.empty(len(packed), dtype) for dtype in dtypes]
        for first in range(0, len(packed), _BLOCK):
            some = packed[first : first + _BLOCK].copy()
            for column, width in zip(reversed(out), reversed(bits), strict=True):
                column[first : first + _BLOCK] = some & np.uint64(2**width - 1)
                some >>= np.uint64(width)
        return cls(*map(_frozen, out))

    @classmethod
    def union(
        cls, parts: Sequence[TripleColumns], num_entities: int, num_relations: int
    ) -> TripleColumns:
        """Join triples of several splits; those of one are not copied."""
        if len(parts) == 1:
            return parts[0]
        heads, relations, tails = (
            np.concatenate([part.column(slot) for part in parts]) for slot in range(3)
        )
        return cls.sorted(heads, relations, tails, num_entities, num_relations)

    def __len__(self) -> int:
        """Count the triples."""
        return len(self.heads)

    def column(self, slot: int) -> Column:
        """Ids in a slot, 0 head, 1 relation, 2 tail; shape (n,), read-only."""
        return (self.heads, self.relations, self.tails)[slot]

    def rows(self, indices: NDArray[np.integer] | slice) -> NDArray[np.int64]:
        """Give some triples, int64, shape (m, 3); an array of the caller's own."""
        if isinstance(indices, slice):
            some = [column[indices] for column in (self.heads, self.relations, self.tails)]
        else:  # take is three times as fast as [indices]
            some = [column.take(indices) for column in (self.heads, self.relations, self.tails)]
        rows = np.empty((len(some[0]), 3), dtype=np.int64)
        for slot, column in enumerate(some):
            rows[:, slot] = column
        return rows

    def array(self, order: tuple[int, int, int] = (0, 1, 2)) -> NDArray[np.int64]:
        """Give all triples, int64, shape (n, 3): 24 bytes each, made anew at each call.

        :param order: the slots in the order of the columns
        """
        rows = np.empty((len(self), 3), dtype=np.int64)
        for place, slot in enumerate(order):
            rows[:, place] = self.column(slot)
        return rows

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """Give all triples, some at a time, int64, shape (m, 3)."""
        for first in range(0, len(self), _BLOCK):
            yield self.rows(slice(first, first + _BLOCK))

    def fingerprint(self, num_entities: int, num_relations: int) -> str:
        """Fingerprint of these triples as a split, 64 hexadecimal digits."""
        return fingerprint_of_blocks(self.blocks(), len(self), num_entities, num_relations)

    def are_among(self, triples: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell for each triple, shape (n, 3), whether it is one of these, by bisection.

        So no index is built for it.

        :return: shape (n,)
        """
        if len(self) == 0:
            return np.zeros(len(triples), dtype=np.bool_)
        low = np.zeros(len(triples), dtype=np.int64)
        high = np.full(len(triples), len(self), dtype=np.int64)
        for _ in range(len(self).bit_length()):
            middle = (low + high) // 2
            rows = self.rows(np.minimum(middle, len(self) - 1))
            is_before = _are_before(rows, triples) & (low < high)
            low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, middle)
        found: NDArray[np.bool_] = (self.rows(np.minimum(low, len(self) - 1)) == triples).all(
            axis=1
        )
        return found

    @property
    def row_bytes(self) -> int:
        """Memory of a triple, in bytes."""
        return self.heads.itemsize + self.relations.itemsize + self.tails.itemsize

    @property
    def nbytes(self) -> int:
        """Memory, in bytes."""
        return self.row_bytes * len(self)


class SplitArrays(Mapping[str, NDArray[np.int64]]):
    """The triples of each split as one array, made anew at each look-up.

    :param columns: by split
    """

    def __init__(self, columns: Mapping[str, TripleColumns]) -> None:
        self._columns = columns

    def __getitem__(self, split: str) -> NDArray[np.int64]:
        return _frozen(self._columns[split].array())

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    array.flags.writeable = False
    return array


def _are_before(rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    less, equal = rows < others, rows == others
    before: NDArray[np.bool_] = less[:, 0] | (
        equal[:, 0] & (less[:, 1] | (equal[:, 1] & less[:, 2]))
    )
    return before
