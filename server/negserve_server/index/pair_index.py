"""The sorted known values of a pair of ids, found with one memory touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve_server.index.kernels import contains_values, fill_table, find_one
from negserve_server.index.rank_directory import SHORT_LIST, build_directories

#: The most values an index holds: a start is kept in 32 bits.
MAX_VALUES = 2**32 - 1


def sort_unique_triples(triples: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sort triples by first, then second, then third column, and drop repetitions.

    :param triples: ids below 2^32, shape (n, 3)
    :return: int64, shape (m, 3), m <= n
    """
    if len(triples) == 0:
        return np.empty((0, 3), dtype=np.int64)
    rows: NDArray[np.int64] = np.ascontiguousarray(triples, dtype=np.int64)
    bits = [max(int(column.max()).bit_length(), 1) for column in rows.T]
    if sum(bits) <= 64:
        # One sort of packed keys is many times faster than sorting rows.
        packed = rows[:, 0].astype(np.uint64)
        for column in (1, 2):
            packed = (packed << np.uint64(bits[column])) | rows[:, column].astype(np.uint64)
        packed = np.unique(packed)
        result = np.empty((len(packed), 3), dtype=np.int64)
        for column in (2, 1):
            result[:, column] = packed & np.uint64(2 ** bits[column] - 1)
            packed >>= np.uint64(bits[column])
        result[:, 0] = packed
        return result
    ordered = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    keep = np.ones(len(ordered), dtype=np.bool_)
    keep[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[keep]


@dataclass(frozen=True, slots=True)
class PairIndex:
    """Exact map from a pair of ids to the sorted ids known for it.

    :ivar table: uint64, shape (capacity, 2): an open-addressing hash table at most half
        full, see :func:`kernels.find_pair`
    :ivar values: uint32: the lists, one behind the other; a long one is followed by the index
        of its directory
    :ivar directory: uint32: the directories of the long lists, see :mod:`.rank_directory`
    """

    table: NDArray[np.uint64]
    values: NDArray[np.uint32]
    directory: NDArray[np.uint32]
    num_pairs: int

    @classmethod
    def build(cls, triples: NDArray[np.integer]) -> PairIndex:
        """Index triples by their first two columns.

        :param triples: shape (n, 3): first and second id of the pair, value; ids below 2^32,
            repetitions allowed
        :raises ValueError: if there are more than 2^32 - 1 distinct triples
        """
        ordered = sort_unique_triples(triples)
        keys = (ordered[:, 0].astype(np.uint64) << np.uint64(32)) | ordered[:, 1].astype(np.uint64)
        is_first = np.ones(len(keys), dtype=np.bool_)
        is_first[1:] = keys[1:] != keys[:-1]
        starts = np.append(np.flatnonzero(is_first), len(keys))
        keys = keys[is_first]
        lengths = np.diff(starts)
        is_long = lengths > SHORT_LIST
        num_places = len(ordered) + int(is_long.sum())
        if num_places > MAX_VALUES:
            raise ValueError(f"{num_places} places for values: one index holds {MAX_VALUES}")
        gaps: NDArray[np.int64] = np.cumsum(is_long) - is_long  # free places before each list
        values = np.zeros(num_places, dtype=np.uint32)
        values[np.arange(len(ordered)) + np.repeat(gaps, lengths)] = ordered[:, 2]
        starts = starts[:-1] + gaps
        directory = build_directories(values, starts, lengths)
        capacity = 1 << max(2 * len(keys) - 1, 1).bit_length()
        table = np.zeros((capacity, 2), dtype=np.uint64)
        fill_table(table, keys, starts, lengths)
        return cls(table=table, values=values, directory=directory, num_pairs=len(keys))

    @classmethod
    def empty(cls) -> PairIndex:
        """Make an index that knows nothing."""
        nothing = np.empty(0, dtype=np.uint32)
        return cls(np.zeros((1, 2), dtype=np.uint64), nothing, nothing, 0)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.table.nbytes + self.values.nbytes + self.directory.nbytes

    def known(self, first: int, second: int) -> NDArray[np.uint32]:
        """Give the sorted values known for a pair, shape (m,); empty if there are none."""
        start, length = find_one(self.table, np.uint64(first << 32 | second))
        return self.values[int(start) : int(start + length)]

    def contains(
        self,
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        value: NDArray[np.integer],
    ) -> NDArray[np.bool_]:
        """Tell for each (pair, value) whether it is known; all of shape (n,), ids below 2^32."""
        # Copies, because layout and writability are part of an array's type to numba: views
        # of all kinds would compile the kernel again.
        columns = [np.array(column, dtype=np.int64) for column in (first, second, value)]
        out = np.empty(len(first), dtype=np.bool_)
        contains_values(self.table, self.values, *columns, out)
        return out
