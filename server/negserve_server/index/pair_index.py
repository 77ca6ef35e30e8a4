"""Index from a pair of ids to its sorted known values; a lookup reads two or three cache lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from negserve_server.index.members import MemberSet, make_members, member_layout
from negserve_server.index.pair_builder import PART_TRIPLES, Pairs, build_pairs
from negserve_server.index.pair_directory import pack_layout
from negserve_server.index.pair_lookups import (
    contains_values,
    copy_values,
    count_values,
    find_one,
    find_values,
)
from negserve_server.jit.addresses import address_of


class _Memory:
    """Words of lists in memory."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint32]] = []

    def append(self, words: NDArray[np.uint32]) -> None:
        """Take the words that follow."""
        self._parts.append(words)

    def clear(self) -> None:
        """Forget all words."""
        self._parts.clear()

    def words(self) -> NDArray[np.uint32]:
        """All words, from the start of a cache line on."""
        num_words = sum(len(part) for part in self._parts)
        room = np.empty(num_words + 16, dtype=np.uint32)
        skip = -(room.ctypes.data // 4) % 16
        words = room[skip : skip + num_words]
        at = 0
        self._parts.reverse()
        while self._parts:
            part = self._parts.pop()  # and free it
            words[at : at + len(part)] = part
            at += len(part)
        return words


@dataclass(frozen=True)
class PairIndex:
    """Exact map from a pair of ids to its sorted known values.

    :ivar directory: uint64, shape (lines, 8), from pairs to their lists, see :mod:`.pair_directory`
    :ivar lists: uint32: the pairs and their known values, see there and :mod:`.known_lists`
    :ivar layout: sizes of the directory
    :ivar multiplier: of the scattered keys of the directory
    :ivar num_pairs: number of pairs that have values
    :ivar num_values: number of their values
    :ivar num_ids: values are below it
    """

    directory: NDArray[np.uint64]
    lists: NDArray[np.uint32]
    layout: int
    multiplier: int
    num_pairs: int
    num_values: int
    num_ids: int

    @classmethod
    def build(cls, pairs: Pairs, *, part_triples: int = PART_TRIPLES) -> PairIndex:
        """Index triples by the two ids that stay.

        :param part_triples: triples that are sorted at a time, on average
        :raises ValueError: if the lists take more than 2^35 words of 4 bytes
        """
        memory = _Memory()
        built = build_pairs(pairs, memory, part_triples=part_triples)
        return cls(
            directory=built.directory,
            lists=memory.words(),
            layout=built.layout,
            multiplier=built.multiplier,
            num_pairs=built.num_pairs,
            num_values=built.num_values,
            num_ids=int(pairs.num_values.max(initial=1)),
        )

    @staticmethod
    def least_bytes(num_triples: int) -> int:
        """Lower bound of the bytes of an index of distinct triples: four bytes a value."""
        return 4 * num_triples

    @classmethod
    def empty(cls) -> PairIndex:
        """Make an index that knows nothing."""
        # Without kernels, which would be compiled when a module that needs it is imported.
        return cls(
            directory=np.zeros((1, 8), dtype=np.uint64),
            lists=np.zeros(16, dtype=np.uint32),
            layout=pack_layout(second_bits=0, key_bits=1, remainder_bits=0),
            multiplier=1,
            num_pairs=0,
            num_values=0,
            num_ids=1,
        )

    @cached_property
    def address(self) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
        """What kernels know of it: addresses of directory and lists, layout and multiplier."""
        return (
            address_of(self.directory),
            address_of(self.lists),
            np.uint64(self.layout),
            np.uint64(self.multiplier),
        )

    def arrays(self) -> dict[str, NDArray[np.unsignedinteger]]:
        """Its arrays by name, to be stored."""
        return {"directory": self.directory, "lists": self.lists}

    def scalars(self) -> dict[str, int]:
        """Its numbers by name, to be stored."""
        names = ("layout", "multiplier", "num_pairs", "num_values", "num_ids")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.unsignedinteger]], scalars: Mapping[str, int]
    ) -> PairIndex:
        """Take stored arrays without a copy.

        :param arrays: as :meth:`arrays` gave them, each from the start of a cache line on
        :param scalars: as :meth:`scalars` gave them
        """
        return cls(
            directory=arrays["directory"].view(np.uint64),
            lists=arrays["lists"].view(np.uint32),
            layout=scalars["layout"],
            multiplier=scalars["multiplier"],
            num_pairs=scalars["num_pairs"],
            num_values=scalars["num_values"],
            num_ids=scalars["num_ids"],
        )

    @property
    def member_layout(self) -> int | None:
        """Layout of :meth:`members`; None if there are too many ids for such a set."""
        return member_layout(len(self.lists), self.num_ids, self.num_values)

    def members(self) -> MemberSet:
        """Make a hash set of the known values, unless :attr:`member_layout` is None."""
        layout = self.member_layout
        assert layout is not None
        directory, lists, own_layout, _ = self.address
        return make_members(directory, lists, own_layout, layout)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.directory.nbytes + self.lists.nbytes

    def known(self, first: int, second: int) -> NDArray[np.uint32]:
        """Sorted known values of a pair, whose ids are inside the id spaces, shape (m,)."""
        start, length = find_one(*self.address, np.uint64(first), np.uint64(second))
        return self.lists[int(start) : int(start + length)]

    def count(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.int64]:
        """Count the known values of each pair; all of shape (n,), ids inside the id spaces."""
        out = np.empty(len(first), dtype=np.int64)
        columns = [np.array(column, dtype=np.int64) for column in (first, second)]
        count_values(*self.address, *columns, out)
        return out

    def find(
        self, first: NDArray[np.integer], second: NDArray[np.integer]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Find the known values of each pair; all of shape (n,), ids inside the id spaces.

        :return: where the values of each pair begin, for :meth:`values`, and how many there are
        """
        starts = np.empty(len(first), dtype=np.uint64)
        lengths = np.empty(len(first), dtype=np.int64)
        columns = [np.array(column, dtype=np.int64) for column in (first, second)]
        find_values(*self.address, *columns, starts, lengths)
        return starts, lengths

    def values(self, starts: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Copy runs of values, one after another; both of shape (n,).

        :param starts: as :meth:`find` gave them, or later in the values of a pair
        :param lengths: of the runs, at most what is left of the values of the pair
        """
        out = np.empty(int(lengths.sum()), dtype=np.uint32)
        # Copies: as in `contains`.
        copy_values(address_of(self.lists), starts.copy(), lengths.copy(), out)
        return out

    def contains(
        self,
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        value: NDArray[np.integer],
    ) -> NDArray[np.bool_]:
        """Whether each (pair, value) is known; all of shape (n,), ids inside the id spaces."""
        # Copies, since layout and writability are part of an array's type in numba: each kind of
        # view would compile the kernel again.
        columns = [np.array(column, dtype=np.int64) for column in (first, second, value)]
        out = np.empty(len(first), dtype=np.bool_)
        contains_values(*self.address, *columns, out)
        return out
