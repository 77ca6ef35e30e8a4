"""The parts of a graph: what a factory is made of, and what a snapshot stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.config import SPLITS
from negserve.types.triples import as_triples
from negserve_server.graph.snapshot.manifest import SnapshotPlace
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.index import PairIndex
from negserve_server.index.filter_index import check_ids
from negserve_server.sampling import RelationCounts
from negserve_server.triple_columns import TripleColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphParts:
    """Triples, id spaces, labels and type constraints of a graph; and what was computed of them.

    :ivar columns: triples of each split, in the order training, validation, testing
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar entities: labels of the entities, if there are any
    :ivar relations: labels of the relations, if there are any
    :ivar num_unseen: per split, triples left out for a label unseen in training
    :ivar type_constraints: the entities that relations allow as heads and tails, if that is known
    :ivar split_fingerprints: fingerprint of each split; None if not computed yet
    :ivar type_constraints_fingerprint: likewise of the type constraints
    :ivar relation_counts: counts of the training triples per relation; None likewise
    :ivar indexes: directions of filter indexes that were made before, by slot, by splits
    :ivar place: the snapshot that the parts are mapped from; None if they are in memory
    """

    columns: Mapping[str, TripleColumns]
    num_entities: int
    num_relations: int
    entities: Vocabulary | None = None
    relations: Vocabulary | None = None
    num_unseen: Mapping[str, int] = field(default_factory=dict)
    type_constraints: TypeConstraints | None = None
    split_fingerprints: Mapping[str, str] | None = None
    type_constraints_fingerprint: str | None = None
    relation_counts: RelationCounts | None = None
    indexes: Mapping[tuple[str, ...], Mapping[str, PairIndex]] = field(default_factory=dict)
    place: SnapshotPlace | None = None

    @classmethod
    def of(
        cls,
        splits: Mapping[str, ArrayLike | TripleColumns],
        *,
        num_entities: int | None = None,
        num_relations: int | None = None,
        entities: Vocabulary | None = None,
        relations: Vocabulary | None = None,
        num_unseen: Mapping[str, int] | None = None,
        type_constraints: TypeConstraints | None = None,
    ) -> GraphParts:
        """Check and sort a graph.

        :param splits: ids per split, each shape (n, 3), ``training`` at least; or columns, for
            which the sizes have to be given, and which are not checked. The other parameters are
            those of :class:`.TriplesFactory`
        :raises IdOutOfRange: if a triple has an id outside the id space
        :raises ValueError: for an empty training split, labels that do not fit the id space, or
            type constraints with an id outside of it
        """
        if set(splits) - set(SPLITS) or "training" not in splits:
            raise ValueError(f"splits {sorted(splits)}: give training, and any of {SPLITS}")
        given = {name: splits[name] for name in SPLITS if name in splits}
        ready: dict[str, TripleColumns] = {}
        arrays: dict[str, NDArray[np.int64]] = {}
        for split, triples in given.items():
            if isinstance(triples, TripleColumns):
                ready[split] = triples
            else:
                arrays[split] = as_triples(triples)
        if len((ready if "training" in ready else arrays)["training"]) == 0:
            raise ValueError("the training split is empty; give at least one triple")
        num_entities = _size(arrays, [0, 2]) if num_entities is None else num_entities
        num_relations = _size(arrays, [1]) if num_relations is None else num_relations
        for kind, vocabulary, size in (
            ("entities", entities, num_entities),
            ("relations", relations, num_relations),
        ):
            if vocabulary is not None and len(vocabulary) != size:
                raise ValueError(f"{len(vocabulary)} labels for {size} {kind}; give one each")
            if size > 2**32:
                raise ValueError(f"{size} {kind}: an id space holds at most 2^32")
        for array in arrays.values():
            check_ids(array, num_entities, num_relations)
        if type_constraints is not None:
            type_constraints.check_ids(num_entities, num_relations)
        return cls(
            columns={
                name: ready[name]
                if name in ready
                else TripleColumns.of(arrays[name], num_entities, num_relations)
                for name in given
            },
            num_entities=num_entities,
            num_relations=num_relations,
            entities=entities,
            relations=relations,
            num_unseen={name: (num_unseen or {}).get(name, 0) for name in given},
            type_constraints=type_constraints,
        )


def _size(arrays: Mapping[str, NDArray[np.int64]], columns: list[int]) -> int:
    return max(int(array[:, columns].max(initial=-1)) for array in arrays.values()) + 1
