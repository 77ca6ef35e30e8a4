"""Which ids may be drawn in a slot of a relation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.types.triples import are_first

#: Where the candidates of a relation begin that may take every id.
EVERY_ID = -1


def packed_pairs(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Pack pairs of ids below 2^32 into ``first << 32 | second``; sorted, distinct, shape (m,)."""
    packed = first.astype(np.uint64)
    packed <<= np.uint64(32)
    np.bitwise_or(packed, second, out=packed, dtype=np.uint64, casting="unsafe")
    packed.sort()
    return packed[are_first(packed)]


def distinct_pairs(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sort pairs of ids below 2^32 and drop repetitions: shapes (n,), (n,) to (m, 2)."""
    packed = packed_pairs(first, second)
    pairs = np.empty((len(packed), 2), dtype=np.int64)
    pairs[:, 0] = packed >> np.uint64(32)
    pairs[:, 1] = packed & np.uint64(2**32 - 1)
    return pairs


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Candidates:
    """The candidate ids of one slot, per relation. Their order ranks them.

    What is the same for all relations is held once: as read-only arrays with a stride of 0.

    :ivar starts: int64, shape (num_relations,): relation r owns
        ``ids[starts[r]:starts[r] + counts[r]]``, or every id where that is ``EVERY_ID``; shape
        (0,) where every relation owns every id
    :ivar counts: int64, shape (num_relations,): how many candidates each relation has
    :ivar ids: uint32
    """

    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    ids: NDArray[np.uint32]

    @classmethod
    def every_id(cls, num_relations: int, num_ids: int) -> Candidates:
        """Every id of the slot is a candidate."""
        counts = np.broadcast_to(np.int64(num_ids), num_relations)
        return cls(np.empty(0, dtype=np.int64), counts, np.empty(0, dtype=np.uint32))

    @classmethod
    def same(cls, ids: NDArray[np.integer], num_relations: int) -> Candidates:
        """Take the same ids, in this order, for every relation."""
        return cls(
            np.broadcast_to(np.int64(0), num_relations),
            np.broadcast_to(np.int64(len(ids)), num_relations),
            ids.astype(np.uint32, copy=False),
        )

    @classmethod
    def per_relation(
        cls,
        pairs: NDArray[np.integer],
        num_relations: int,
        num_ids: int,
        *,
        others: NDArray[np.integer] | None,
    ) -> Candidates:
        """Take ids by relation.

        :param pairs: distinct (relation, id), sorted, shape (m, 2)
        :param others: ids for a relation without pairs, sorted; an empty array for none, None
            for every id
        """
        counts = np.bincount(pairs[:, 0], minlength=num_relations)
        starts = np.cumsum(counts) - counts
        is_without = counts == 0
        ids = pairs[:, 1].astype(np.uint32)
        if others is None:
            starts[is_without] = EVERY_ID
            counts[is_without] = num_ids
        else:
            starts[is_without] = len(ids)
            counts[is_without] = len(others)
            ids = np.concatenate([ids, others.astype(np.uint32)])
        return cls(starts.astype(np.int64, copy=False), counts.astype(np.int64, copy=False), ids)

    @staticmethod
    def least_bytes(num_relations: int) -> int:
        """Say what candidates by relation take at least, without the ids."""
        return 16 * num_relations

    @property
    def is_every_id(self) -> bool:
        """Whether every relation owns every id."""
        return len(self.starts) == 0

    @property
    def are_alike(self) -> bool:
        """Whether the candidates of all relations are the same, and held once."""
        return self.counts.strides == (0,)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        if self.are_alike:
            return self.ids.nbytes
        return self.starts.nbytes + self.counts.nbytes + self.ids.nbytes

    def ranks(
        self, relations: NDArray[np.int64], ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rank ids among the sorted candidates of their relation; all of shape (n,).

        :return: the ranks, and where the id is a candidate at all
        """
        ranks = ids.astype(np.int64)
        found = np.ones(len(ids), dtype=np.bool_)
        if self.is_every_id:
            return ranks, found
        if self.are_alike:
            return _ranks(self.ids, ids)
        order = np.argsort(relations, kind="stable")
        in_order = relations[order]
        bounds = np.flatnonzero(np.diff(in_order, prepend=-1, append=-1))
        for begin, end in itertools.pairwise(bounds.tolist()):
            relation = in_order[begin]
            start = self.starts[relation]
            if start == EVERY_ID:
                continue
            rows = order[begin:end]
            own = self.ids[start : start + self.counts[relation]]
            ranks[rows], found[rows] = _ranks(own, ids[rows])
        return ranks, found


def _ranks(
    own: NDArray[np.uint32], ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rank ids among sorted ones, and tell which are among them; shapes (m,), (n,) to (n,)."""
    ranks = np.searchsorted(own, ids.astype(np.uint32))
    found = ranks < len(own)
    found[found] = own[ranks[found]] == ids[found]
    return ranks, found
