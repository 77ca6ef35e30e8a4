"""The exact filter index over the triples of the chosen splits."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping

import numpy as np
from numpy.typing import NDArray

from negserve.types.answers.known_values import KnownValues
from negserve.types.triples import narrowest_dtype
from negserve_server.errors import IdOutOfRange
from negserve_server.index.pair_builder import Pairs
from negserve_server.index.pair_index import PairIndex
from negserve_server.tables import GraphTables
from negserve_server.triple_columns import TripleColumns

#: Columns of a triple, and the slot names in that order.
SLOTS = ("head", "relation", "tail")


def check_ids(triples: NDArray[np.integer], num_entities: int, num_relations: int) -> None:
    """Check that all ids are inside the id space.

    :param triples: shape (n, 3)
    :raises IdOutOfRange: naming the first bad row of the first bad column
    """
    for column, slot in enumerate(SLOTS):
        ids = triples[:, column]
        limit = num_relations if slot == "relation" else num_entities
        bad = (ids < 0) | (ids >= limit)
        if bad.any():
            row = int(bad.argmax())
            raise IdOutOfRange(row=row, slot=slot, value=int(ids[row]), limit=limit)


class FilterIndex:
    """Exact index of the known triples: whether one is known, and the known values of a pair.

    Immutable and safe to use from many threads. Each of the three directions is built on first
    use: (h, r) to corrupt tails, (r, t) to corrupt heads, (h, t) to corrupt relations.

    :param triples: shape (n, 3), ids inside the id space, repetitions allowed; or columns, which
        are not copied
    :param owns_triples: whether columns are of this index alone, and count as its memory
    :param num_entities: size of the entity id space, 1 to 2^32
    :param num_relations: size of the relation id space, 1 to 2^32
    :param tables: store of the directions, which frees unused ones; None to keep all
    :param name: key of this index among the tables
    :param usual_slots: directions that are kept nevertheless
    :param made: directions that were made before, by slot
    :raises IdOutOfRange: if a triple has an id outside the id space
    """

    def __init__(
        self,
        triples: NDArray[np.integer] | TripleColumns,
        *,
        num_entities: int,
        num_relations: int,
        owns_triples: bool = True,
        tables: GraphTables | None = None,
        name: Hashable = (),
        usual_slots: tuple[str, ...] = (),
        made: Mapping[str, PairIndex] | None = None,
    ) -> None:
        self._owns_triples = owns_triples
        if not isinstance(triples, TripleColumns):
            check_ids(triples, num_entities, num_relations)
            triples = TripleColumns.of(triples, num_entities, num_relations)
        self._triples = triples
        self.num_entities = num_entities
        self.num_relations = num_relations
        self._lock = threading.Lock()
        self._by_slot: dict[str, PairIndex] = dict(made or {})
        self._tables = tables
        self._name = name
        #: The direction that :meth:`contains` uses, kept from its first call on.
        self._tail_index: PairIndex | None = None
        self._usual_slots = SLOTS if tables is None else usual_slots

    def __len__(self) -> int:
        """Count the distinct known triples."""
        return len(self._triples)

    def by_slot(self, slot: str, *, keep: bool = False) -> PairIndex:
        """Index of the known values of a slot by the ids of the other two slots, in their order.

        :param keep: whether one that is not usual stays for a while when nobody holds it: for
            callers that ask again and again
        """
        if slot in self._usual_slots or slot in self._by_slot:
            with self._lock:
                if slot not in self._by_slot:
                    self._by_slot[slot] = self._build(slot)
                return self._by_slot[slot]
        assert self._tables is not None
        return self._tables.get(
            (self._name, slot),
            lambda: self._build(slot),
            num_bytes=PairIndex.least_bytes(len(self._triples)),
            keep=keep,
        )

    def _build(self, slot: str) -> PairIndex:
        num_ids = (self.num_entities, self.num_relations, self.num_entities)
        value = SLOTS.index(slot)
        first, second = (column for column in range(3) if column != value)
        return PairIndex.build(
            Pairs(
                first=self._triples.column(first),
                second=self._triples.column(second),
                values=self._triples.column(value),
                num_first=num_ids[first],
                num_second=num_ids[second],
                num_values=np.array([num_ids[value]]),
            )
        )

    def known_tails(self, head: int, relation: int) -> NDArray[np.uint32]:
        """Sorted tails t with (head, relation, t) known, shape (m,)."""
        return self._known("tail", head, relation, None)

    def known_heads(self, relation: int, tail: int) -> NDArray[np.uint32]:
        """Sorted heads h with (h, relation, tail) known, shape (m,)."""
        return self._known("head", None, relation, tail)

    def known_relations(self, head: int, tail: int) -> NDArray[np.uint32]:
        """Sorted relations r with (head, r, tail) known, shape (m,)."""
        return self._known("relation", head, None, tail)

    def _known(
        self, slot: str, head: int | None, relation: int | None, tail: int | None
    ) -> NDArray[np.uint32]:
        """Known values of the slot whose id is None, read-only.

        :raises IdOutOfRange: if one of the other ids is outside the id space
        """
        ids = np.array([[id_ if id_ is not None else 0 for id_ in (head, relation, tail)]])
        check_ids(ids, self.num_entities, self.num_relations)
        first, second = (id_ for id_ in (head, relation, tail) if id_ is not None)
        values = self.by_slot(slot, keep=True).known(first, second)
        values.flags.writeable = False
        return values

    def known(self, pairs: NDArray[np.integer], slot: str) -> KnownValues:
        """Known values of a slot for each pair of ids of the other two slots, in their order.

        :param pairs: shape (n, 2)
        :raises IdOutOfRange: if a pair has an id outside the id space
        """
        index = self.by_slot(slot, keep=True)
        starts, counts = self.find(pairs, slot)
        return KnownValues(
            counts, index.values(starts, counts).astype(self.dtype_of(slot), copy=False)
        )

    def find(
        self, pairs: NDArray[np.integer], slot: str
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Find the known values of each pair, as :meth:`PairIndex.find` does.

        :param pairs: shape (n, 2)
        :raises IdOutOfRange: if a pair has an id outside the id space
        """
        triples = np.insert(pairs, SLOTS.index(slot), 0, axis=1)
        check_ids(triples, self.num_entities, self.num_relations)
        return self.by_slot(slot, keep=True).find(pairs[:, 0], pairs[:, 1])

    def dtype_of(self, slot: str) -> np.dtype[np.unsignedinteger]:
        """Narrowest dtype of the ids of a slot."""
        return narrowest_dtype(self.num_relations if slot == "relation" else self.num_entities)

    def contains(self, triples: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each triple is known.

        :param triples: shape (n, 3)
        :return: shape (n,)
        :raises IdOutOfRange: if a triple has an id outside the id space
        """
        check_ids(triples, self.num_entities, self.num_relations)
        if self._tail_index is None:
            self._tail_index = self.by_slot("tail")
        return self._tail_index.contains(triples[:, 0], triples[:, 1], triples[:, 2])

    @property
    def triples(self) -> NDArray[np.int64]:
        """The distinct known triples in lexicographic order, shape (n, 3), made at each call."""
        return self._triples.array()

    @property
    def nbytes(self) -> int:
        """Memory in bytes of its own triples and of the directions that it keeps."""
        with self._lock:
            triples = self._triples.nbytes if self._owns_triples else 0
            return triples + sum(index.nbytes for index in self._by_slot.values())
