"""Memory of a graph and of what samplers need besides, before it is built."""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of the index of a direction, per triple: 7 to 11 measured.
_INDEX_BYTES = 11.0
#: Bytes of tables of a direction besides, per triple: the middle of what docs/operations.md states.
#: Known values once more, in the order in which candidates are kept, and candidates or units.
_TABLE_BYTES = {"basic": 0.0, "bernoulli": 0.0, "typed": 15.0, "pseudotyped": 15.0, "degree": 24.0}
#: Order and units of the entities, of a direction.
_DEGREE_ENTITY_BYTES = 24.0
#: The set of known values, with one negative per positive.
_SET_BYTES = 10.0


@dataclass(frozen=True, slots=True)
class GraphSize:
    """The size of a graph.

    :ivar num_triples: of all splits
    :ivar num_entities: ids of heads and tails
    :ivar num_relations: ids of relations
    :ivar num_directions: slots that samplers replace, of whose values the index is: 1 to 3
    :ivar num_bytes: memory of its snapshot; None to estimate it
    """

    num_triples: int
    num_entities: int
    num_relations: int
    num_directions: int = 2
    num_bytes: int | None = None

    @property
    def triple_bytes(self) -> int:
        """Bytes of the ids of a triple, in memory and in messages."""
        return 2 * id_bytes(self.num_entities) + id_bytes(self.num_relations)

    @property
    def resident_bytes(self) -> float:
        """Memory of its snapshot with its index, in bytes."""
        if self.num_bytes is not None:
            return self.num_bytes
        return self.num_triples * (self.triple_bytes + self.num_directions * _INDEX_BYTES)

    def table_bytes(self, kind: str, num_negs_per_pos: int) -> float:
        """Estimate the memory of the tables of a configuration that filters, in bytes."""
        per_triple = _TABLE_BYTES[kind]
        if num_negs_per_pos == 1 and kind in ("basic", "bernoulli"):
            per_triple += _SET_BYTES
        per_entity = _DEGREE_ENTITY_BYTES if kind == "degree" else 0.0
        return self.num_directions * (
            self.num_triples * per_triple + self.num_entities * per_entity
        )


def id_bytes(num_ids: int) -> int:
    """Return the bytes of an id: 1, 2 or 4."""
    return next(width for width in (1, 2, 4) if num_ids <= 256**width)
