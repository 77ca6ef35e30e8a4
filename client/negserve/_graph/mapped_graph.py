"""A caller's graph: the mapped triples of its splits, and its fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve._graph.given_graph import GivenSplit, read_splits
from negserve._graph.graph_labels import GraphLabels
from negserve._graph.swapped_columns import why_swapped
from negserve._graph.type_pairs import TypePairs
from negserve.errors import InvalidRequestError
from negserve.types.fingerprint import (
    distinct_triples,
    fingerprint_of_distinct,
    graph_fingerprint,
    types_fingerprint,
)


@dataclass(frozen=True, slots=True, eq=False)
class MappedGraph:
    """A graph that the caller holds.

    :ivar splits: distinct triples by split, sorted by head, relation, tail, each of shape (n, 3);
        in the order training, validation, testing
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar split_fingerprints: 64 hexadecimal digits by split
    :ivar fingerprint: 64 hexadecimal digits, equal to that of the same graph on a server
    :ivar type_constraints: the entities that relations allow; None for a graph without them
    :ivar labels: of entities and relations; None for a graph without labels
    :ivar doubt: why the columns look swapped; None if they do not
    """

    splits: Mapping[str, NDArray[np.uint32]]
    num_entities: int
    num_relations: int
    split_fingerprints: Mapping[str, str]
    fingerprint: str
    type_constraints: TypePairs | None = None
    labels: GraphLabels | None = None
    doubt: str | None = None

    @classmethod
    def of(
        cls,
        factory: Any,
        *,
        num_entities: int | None = None,
        num_relations: int | None = None,
        type_constraints: Any = None,
        entity_to_id: Mapping[str, int] | None = None,
        relation_to_id: Mapping[str, int] | None = None,
    ) -> MappedGraph:
        """Read a graph in any form that :meth:`negserve.Client.publish` accepts.

        :raises InvalidRequestError: for an unknown kind of object, a graph without training
            triples, an unknown name of a split, ids that are not integers or outside the id space,
            and labels that do not match the ids
        """
        if isinstance(factory, MappedGraph):
            return factory
        given = read_splits(factory)
        if len(given["training"].triples) == 0:
            raise InvalidRequestError("there are no training triples; give at least one")
        if num_entities is None:
            num_entities = _size(given, lambda split: split.num_entities, [0, 2])
        if num_relations is None:
            num_relations = _size(given, lambda split: split.num_relations, [1])
        splits = {
            name: distinct_triples(split.triples, num_entities, num_relations)
            for name, split in given.items()
        }
        split_fingerprints = {
            name: fingerprint_of_distinct(triples, num_entities, num_relations)
            for name, triples in splits.items()
        }
        if type_constraints is None:
            type_constraints = given["training"].type_constraints
        types = TypePairs.of(type_constraints, num_entities, num_relations)
        arrays = [splits[name] for name, split in given.items() if split.is_array]
        return cls(
            splits,
            num_entities,
            num_relations,
            split_fingerprints,
            graph_fingerprint(
                split_fingerprints,
                None
                if types is None
                else types_fingerprint(types.heads, types.tails, num_entities, num_relations),
            ),
            types,
            GraphLabels.of(
                _agreed("entity_to_id", entity_to_id, given),
                _agreed("relation_to_id", relation_to_id, given),
                num_entities,
                num_relations,
            ),
            next(filter(None, map(why_swapped, arrays)), None),
        )

    @property
    def num_triples(self) -> int:
        """Number of distinct triples of all splits together."""
        return sum(len(triples) for triples in self.splits.values())


def _size(
    given: Mapping[str, GivenSplit],
    stated: Callable[[GivenSplit], int | None],
    columns: list[int],
) -> int:
    """Return the size of an id space: the largest that a split states or its ids need."""
    sizes = []
    for split in given.values():
        size = stated(split)
        largest = int(split.triples[:, columns].max(initial=-1))
        sizes.append(largest + 1 if size is None else int(size))
    return max(sizes)


def _agreed(
    name: str, labels: Mapping[str, int] | None, given: Mapping[str, GivenSplit]
) -> Mapping[str, int] | None:
    """Return the labels that all splits share.

    :raises InvalidRequestError: if two splits have different labels, and so different ids
    """
    if labels is not None:
        return labels
    for split, of in given.items():
        found: Mapping[str, int] | None = getattr(of, name)
        if labels is not None and found is not None and dict(found) != dict(labels):
            raise InvalidRequestError(
                f"{name} of {split} differs from that of the other splits, so their ids mean "
                f"different things; map all splits by the labels of training"
            )
        labels = labels if found is None else found
    return labels
