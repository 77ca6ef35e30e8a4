"""Triples as three columns, each as narrow as its id space needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.types.fingerprint import fingerprint_of_blocks
from negserve.types.triples import are_first, narrowest_dtype

_Scalar = TypeVar("_Scalar", bound=np.generic)

Column = NDArray[np.unsignedinteger]

#: Rows that are made at a time, where all are needed one after the other: 1.5 MB.
_BLOCK = 2**16

#: Triples that are sorted at a time, on average at least half as many.
_PART = 2**25

#: Ranges that heads are counted by have at least a 2^-16th of the heads.
_RANGE_BITS = 16


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
        """Sort triples and drop repetitions, some million at a time.

        :param heads: ids below ``num_entities``, shape (n,), and so on
        """
        columns = (heads, relations, tails)
        dtypes = [narrowest_dtype(size) for size in (num_entities, num_relations, num_entities)]
        out = [np.empty(len(heads), dtype) for dtype in dtypes]
        num_rows = 0
        for low, high in _head_ranges(heads):
            is_here = slice(None) if (low, high) == (0, 2**32) else _are_between(heads, low, high)
            part = _sort_unique([column[is_here] for column in columns])
            for column, sorted_part in zip(out, part, strict=True):
                column[num_rows : num_rows + len(sorted_part)] = sorted_part
            num_rows += len(part[0])
        if num_rows < len(heads):
            out = [column[:num_rows].copy() for column in out]
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


def _head_ranges(heads: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Divide heads into ranges that have some million triples each, unless one head has more."""
    if len(heads) <= _PART:
        return [(0, 2**32)]
    largest = max(int(heads[first : first + _PART].max()) for first in range(0, len(heads), _PART))
    shift = max(largest.bit_length() - _RANGE_BITS, 0)
    counts = np.zeros((largest >> shift) + 1, dtype=np.int64)
    for first in range(0, len(heads), _PART):
        # int64, since bincount of earlier versions of numpy takes no uint64.
        some = heads[first : first + _PART].astype(np.int64)
        counts += np.bincount(some >> shift, minlength=len(counts))
    ranges, low, num_rows = [], 0, 0
    for bucket, count in enumerate(counts.tolist()):
        if num_rows and num_rows + count > _PART:
            ranges.append((low << shift, bucket << shift))
            low, num_rows = bucket, 0
        num_rows += count
    return [*ranges, (low << shift, 2**32)]


def _are_between(heads: NDArray[np.integer], low: int, high: int) -> NDArray[np.bool_]:
    is_here = np.empty(len(heads), dtype=np.bool_)
    for first in range(0, len(heads), _PART):
        some = heads[first : first + _PART]
        is_here[first : first + _PART] = (some >= low) & (some < high)
    return is_here


def _sort_unique(columns: list[NDArray[np.integer]]) -> list[NDArray[np.integer]]:
    """Sort rows and drop repetitions."""
    if len(columns[0]) == 0:
        return columns
    lowest = [int(column.min()) for column in columns]
    bits = [
        max((int(column.max()) - low).bit_length(), 1)
        for column, low in zip(columns, lowest, strict=True)
    ]
    if sum(bits) > 64:
        order = np.lexsort(tuple(reversed(columns)))
        ordered = [column[order] for column in columns]
        is_new = np.any([are_first(column) for column in ordered], axis=0)
        return [column[is_new] for column in ordered]
    # One sort of packed keys is many times faster than sorting rows.
    packed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column, low, width in zip(columns, lowest, bits, strict=True):
        packed <<= np.uint64(width)
        packed |= (column - column.dtype.type(low)).astype(np.uint64)
    packed.sort()
    is_new = are_first(packed)
    if not is_new.all():
        packed = packed[is_new]
    found: list[NDArray[np.integer]] = []
    for low, width in zip(reversed(lowest), reversed(bits), strict=True):
        found.append((packed & np.uint64(2**width - 1)).astype(np.uint32) + np.uint32(low))
        packed >>= np.uint64(width)
    return found[::-1]


def _frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    array.flags.writeable = False
    return array


def _are_before(rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    less, equal = rows < others, rows == others
    before: NDArray[np.bool_] = less[:, 0] | (
        equal[:, 0] & (less[:, 1] | (equal[:, 1] & less[:, 2]))
    )
    return before
