"""Which ids a slot of a relation may take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve_server.index import sort_unique_triples


@dataclass(frozen=True, slots=True)
class Candidates:
    """The sorted candidate ids of one slot, per relation.

    :ivar offsets: int64, shape (num_relations + 1,): relation r owns
        ``ids[offsets[r]:offsets[r + 1]]``; shape (0,) where every id is a candidate
    :ivar ids: uint32, the candidates, one relation behind the other
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.uint32]

    @classmethod
    def all_ids(cls) -> Candidates:
        """Every id of the slot is a candidate."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint32))

    @classmethod
    def seen_in(cls, triples: NDArray[np.int64], column: int, num_relations: int) -> Candidates:
        """Take the ids that occur in a column of the triples, shape (n, 3), per relation."""
        pairs = np.zeros((len(triples), 3), dtype=np.int64)
        pairs[:, 0] = triples[:, 1]
        pairs[:, 1] = triples[:, column]
        pairs = sort_unique_triples(pairs)
        offsets = np.zeros(num_relations + 1, dtype=np.int64)
        np.cumsum(np.bincount(pairs[:, 0], minlength=num_relations), out=offsets[1:])
        return cls(offsets, pairs[:, 1].astype(np.uint32))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many candidates each relation has, shape (num_relations,)."""
        return np.diff(self.offsets)

    def ranks(
        self, relations: NDArray[np.int64], ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rank ids among the candidates of their relation; all of shape (n,).

        :return: the ranks, and where the id is a candidate at all
        """
        owners = np.repeat(np.arange(len(self.offsets) - 1), self.counts)
        # Candidates are sorted by (relation, id), so one search over packed keys ranks all.
        keys = (owners.astype(np.uint64) << np.uint64(32)) | self.ids
        wanted = (relations.astype(np.uint64) << np.uint64(32)) | ids.astype(np.uint64)
        at = np.searchsorted(keys, wanted)
        found = np.zeros(len(wanted), dtype=np.bool_)
        inside = at < len(keys)
        found[inside] = keys[at[inside]] == wanted[inside]
        return at - self.offsets[relations], found
