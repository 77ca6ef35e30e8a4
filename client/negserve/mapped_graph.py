"""A graph at hand: mapped triples of its splits, and its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.fingerprint import distinct_triples, fingerprint_of_distinct, graph_fingerprint
from negserve.wire import SPLITS, as_triples


class MappedTriples(Protocol):
    """What has mapped triples, such as PyKEEN's ``CoreTriplesFactory``."""

    @property
    def mapped_triples(self) -> Any:
        """Integer ids, shape (n, 3)."""

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""


#: What :meth:`negserve.Client.publish` takes.
Publishable: TypeAlias = (
    MappedTriples | ArrayLike | Mapping[str, MappedTriples] | Mapping[str, ArrayLike]
)


@dataclass(frozen=True, slots=True, eq=False)
class MappedGraph:
    """A graph at hand.

    :ivar splits: the distinct triples by split, sorted by head, relation, tail, each shape
        (n, 3); in the order training, validation, testing
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar split_fingerprints: 64 hexadecimal digits by split
    :ivar fingerprint: 64 hexadecimal digits, equal to that of the same graph on a server
    """

    splits: Mapping[str, NDArray[np.uint32]]
    num_entities: int
    num_relations: int
    split_fingerprints: Mapping[str, str]
    fingerprint: str

    @classmethod
    def of(
        cls,
        factory: Publishable,
        *,
        num_entities: int | None = None,
        num_relations: int | None = None,
    ) -> MappedGraph:
        """Take a graph in any of the forms that :meth:`negserve.Client.publish` takes.

        :raises InvalidRequestError: if there are no training triples, for a name that is no split,
            and for ids that are not integers or outside the id space
        """
        parts: Mapping[str, Any] = (
            factory if isinstance(factory, Mapping) else {"training": factory}
        )
        unknown = [name for name in parts if name not in SPLITS]
        if unknown or "training" not in parts:
            raise InvalidRequestError(
                f"splits {list(parts)}; give training, and any of {list(SPLITS)}"
            )
        mapped = {name: _as_triples(parts[name]) for name in SPLITS if name in parts}
        if len(mapped["training"]) == 0:
            raise InvalidRequestError("there are no training triples; give at least one")
        if num_entities is None:
            num_entities = _size(parts, mapped, "num_entities", [0, 2])
        if num_relations is None:
            num_relations = _size(parts, mapped, "num_relations", [1])
        splits = {
            name: distinct_triples(triples, num_entities, num_relations)
            for name, triples in mapped.items()
        }
        split_fingerprints = {
            name: fingerprint_of_distinct(triples, num_entities, num_relations)
            for name, triples in splits.items()
        }
        return cls(
            splits,
            num_entities,
            num_relations,
            split_fingerprints,
            graph_fingerprint(split_fingerprints),
        )

    @property
    def num_triples(self) -> int:
        """How many distinct triples there are, of all splits together."""
        return sum(len(triples) for triples in self.splits.values())


def _as_triples(part: Any) -> NDArray[np.int64]:
    triples = getattr(part, "mapped_triples", part)
    # A tensor may be on a device whose memory numpy does not see.
    return as_triples(triples.cpu() if hasattr(triples, "cpu") else triples)


def _size(
    parts: Mapping[str, Any],
    mapped: Mapping[str, NDArray[np.int64]],
    attribute: str,
    columns: list[int],
) -> int:
    """Give the size of an id space: the largest one that a part states, or its ids need."""
    sizes = []
    for name, triples in mapped.items():
        stated = getattr(parts[name], attribute, None)
        largest = int(triples[:, columns].max(initial=-1))
        sizes.append(largest + 1 if stated is None else int(stated))
    return max(sizes)
