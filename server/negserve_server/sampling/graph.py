"""The parts of a graph that samplers draw from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.relation_counts import RelationCounts
from negserve_server.tables import TABLES, GraphTables
from negserve_server.triple_columns import TripleColumns


@dataclass(frozen=True, slots=True)
class Graph:
    """The parts of a graph that draw tables are made from.

    :ivar training: the training triples
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar heads: type constraints of the heads, distinct (relation, entity), sorted, shape (m, 2);
        None if there are none
    :ivar tails: likewise of the tails
    :ivar tables: store of the tables that samplers over the graph share
    :ivar counts: counts per relation, if they were made before
    """

    training: TripleColumns
    num_entities: int
    num_relations: int
    heads: NDArray[np.integer] | None = None
    tails: NDArray[np.integer] | None = None
    tables: GraphTables = field(default_factory=lambda: GraphTables(TABLES))
    counts: RelationCounts | None = None

    @property
    def num_ids(self) -> tuple[int, int, int]:
        """Sizes of the id spaces of head, relation and tail."""
        return self.num_entities, self.num_relations, self.num_entities

    @property
    def relation_counts(self) -> RelationCounts:
        """Counts of the training triples per relation."""
        if self.counts is not None:
            return self.counts
        return self.tables.get(
            "relation counts",
            lambda: RelationCounts.of(self.training, self.num_relations),
            num_bytes=RelationCounts.num_bytes(self.num_relations),
            keep=True,
        )
