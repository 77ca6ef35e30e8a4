"""Index from a pair of ids to its sorted known values; a lookup reads one cache line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.types.triples import sort_unique_triples
from negserve_server.index.known_lists import fill_lists, lay_out_lists
from negserve_server.index.members import fill_members, make_members
from negserve_server.index.pair_table import contains_values, count_values, fill_table, find_one

#: Most words of all lists of an index, since a start has 32 bits.
MAX_WORDS = 2**32


@dataclass(frozen=True)
class PairIndex:
    """Exact map from a pair of ids to its sorted known values.

    :ivar table: uint64, shape (capacity, 2): a hash table at most half full, see
        :func:`.pair_table.find_pair`
    :ivar lists: uint32: the known values, see :mod:`.known_lists`
    """

    table: NDArray[np.uint64]
    lists: NDArray[np.uint32]
    num_pairs: int

    @classmethod
    def build(
        cls,
        triples: NDArray[np.integer],
        num_values: int | NDArray[np.integer],
        *,
        relation_column: int = 0,
    ) -> PairIndex:
        """Index triples by their first two columns.

        :param triples: shape (n, 3): first and second id of the pair, value; ids below 2^32,
            repetitions allowed
        :param num_values: upper bound of all values, exclusive; or that of each relation, shape
            (num_relations,)
        :param relation_column: column of the relation, 0 or 1; used in the latter case
        :raises ValueError: if the lists take more than 2^32 words of 4 bytes
        """
        ordered = sort_unique_triples(triples)
        keys = (ordered[:, 0].astype(np.uint64) << np.uint64(32)) | ordered[:, 1].astype(np.uint64)
        is_first = np.ones(len(keys), dtype=np.bool_)
        is_first[1:] = keys[1:] != keys[:-1]
        at = np.flatnonzero(is_first)
        lengths = np.diff(np.append(at, len(keys)))
        keys = keys[is_first]
        limits = np.full(len(keys), 0, dtype=np.int64)
        limits[:] = (
            num_values if isinstance(num_values, int) else num_values[ordered[at, relation_column]]
        )
        starts = np.empty(len(keys), dtype=np.int64)
        num_words = lay_out_lists(lengths, limits, starts)
        if num_words > MAX_WORDS:
            raise ValueError(f"known values take {num_words} words: one index holds {MAX_WORDS}")
        lists = _aligned_zeros(num_words)
        fill_lists(np.ascontiguousarray(ordered[:, 2]), lengths, limits, starts, lists)
        capacity = 1 << max(2 * len(keys) - 1, 1).bit_length()
        table = np.zeros((capacity, 2), dtype=np.uint64)
        fill_table(table, keys, starts, lengths)
        return cls(table=table, lists=lists, num_pairs=len(keys))

    @staticmethod
    def least_bytes(num_triples: int) -> int:
        """Lower bound of the bytes of an index of distinct triples: four bytes a value."""
        return 4 * num_triples

    @classmethod
    def empty(cls) -> PairIndex:
        """Make an index that knows nothing."""
        return cls(np.zeros((1, 2), dtype=np.uint64), np.zeros(1, dtype=np.uint32), 0)

    def arrays(self) -> dict[str, NDArray[np.unsignedinteger]]:
        """Its arrays by name, to be stored."""
        return {"table": self.table, "lists": self.lists}

    def scalars(self) -> dict[str, int]:
        """Its numbers by name, to be stored."""
        return {"num_pairs": self.num_pairs}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.unsignedinteger]], scalars: Mapping[str, int]
    ) -> PairIndex:
        """Take stored arrays without a copy.

        :param arrays: as :meth:`arrays` gave them, each from the start of a cache line on, and
            writeable, as other arrays are another type to numba
        :param scalars: as :meth:`scalars` gave them
        """
        return cls(arrays["table"], arrays["lists"], scalars["num_pairs"])

    @property
    def num_values(self) -> int:
        """Count the known values of all pairs."""
        return int((self.table[:, 1] >> np.uint64(32)).sum())

    def members(self) -> NDArray[np.uint64]:
        """Known values as a hash set, uint64, shape (num_buckets, 8), see :mod:`.members`."""
        members = make_members(self.num_values)
        fill_members(self.table, self.lists, members)
        return members

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.table.nbytes + self.lists.nbytes

    def known(self, first: int, second: int) -> NDArray[np.uint32]:
        """Sorted known values of a pair, shape (m,)."""
        start, length = find_one(self.table, self.lists, np.uint64(first << 32 | second))
        return self.lists[int(start) : int(start + length)]

    def count(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.int64]:
        """Count the known values of each pair; all of shape (n,), ids below 2^32."""
        out = np.empty(len(first), dtype=np.int64)
        columns = [np.array(column, dtype=np.int64) for column in (first, second)]
        count_values(self.table, *columns, out)
        return out

    def contains(
        self,
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        value: NDArray[np.integer],
    ) -> NDArray[np.bool_]:
        """Whether each (pair, value) is known; all of shape (n,), ids below 2^32."""
        # Copies, since layout and writability are part of an array's type in numba: each kind of
        # view would compile the kernel again.
        columns = [np.array(column, dtype=np.int64) for column in (first, second, value)]
        out = np.empty(len(first), dtype=np.bool_)
        contains_values(self.table, self.lists, *columns, out)
        return out


def _aligned_zeros(num_words: int) -> NDArray[np.uint32]:
    """Zeros from the start of a cache line on, at least one word."""
    room = np.zeros(max(num_words, 1) + 16, dtype=np.uint32)
    skip = -(room.ctypes.data // 4) % 16
    return room[skip : skip + max(num_words, 1)]
