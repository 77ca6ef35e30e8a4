"""Entity and relation labels of a caller's graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from negserve.errors import InvalidRequestError

#: The server's limit; files of labels could not hold the excluded characters.
_MOST_BYTES = 4096
_ILLEGAL = re.compile(r"[\0\t\r\n]")


@dataclass(frozen=True, slots=True, eq=False)
class GraphLabels:
    """Labels in the order of the ids.

    :ivar entities: label of each entity
    :ivar relations: label of each relation
    :ivar num_bytes: length of all labels together, in bytes of UTF-8
    """

    entities: Sequence[str]
    relations: Sequence[str]
    num_bytes: int

    @classmethod
    def of(
        cls,
        entity_to_id: Mapping[str, int] | None,
        relation_to_id: Mapping[str, int] | None,
        num_entities: int,
        num_relations: int,
    ) -> GraphLabels | None:
        """Order labels by id; None for no labels.

        :raises InvalidRequestError: unless each entity and each relation has exactly one legal
            label
        """
        if entity_to_id is None and relation_to_id is None:
            return None
        entities = _in_order("entity_to_id", entity_to_id, num_entities)
        relations = _in_order("relation_to_id", relation_to_id, num_relations)
        return cls(entities, relations, sum(map(_num_bytes, [*entities, *relations])))


def _in_order(name: str, label_to_id: Mapping[str, int] | None, size: int) -> list[str]:
    labels = sorted(label_to_id or {}, key=(label_to_id or {}).__getitem__)
    if [(label_to_id or {})[label] for label in labels] != list(range(size)):
        raise InvalidRequestError(
            f"{name} has {len(labels)} labels for {size} ids; label each id from 0 to {size - 1} "
            f"once, entities and relations, or publish mapped_triples alone, without labels"
        )
    return labels


def _num_bytes(label: str) -> int:
    if isinstance(label, str) and not _ILLEGAL.search(label):
        try:
            num_bytes = len(label.encode())
        except UnicodeEncodeError:  # a lone surrogate
            num_bytes = 0
        if 1 <= num_bytes <= _MOST_BYTES:
            return num_bytes
    raise InvalidRequestError(
        f"label {str(label)[:100]!r} can't be published: give 1 to {_MOST_BYTES} bytes of UTF-8, "
        f"without NUL, tab and line breaks, or publish mapped_triples alone, without labels"
    )
