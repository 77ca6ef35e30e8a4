"""The parts of a graph that samplers draw from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.statistics import RelationStatistics
from negserve_server.tables import TABLES, GraphTables


@dataclass(frozen=True, slots=True)
class Graph:
    """The parts of a graph that draw tables are made from.

    :ivar training: distinct training triples inside the id space, int64, shape (n, 3)
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar heads: type constraints of the heads, distinct (relation, entity), sorted, int64, shape
        (m, 2); None if there are none
    :ivar tails: likewise of the tails
    :ivar tables: store of the tables that samplers over the graph share
    """

    training: NDArray[np.int64]
    num_entities: int
    num_relations: int
    heads: NDArray[np.int64] | None = None
    tails: NDArray[np.int64] | None = None
    tables: GraphTables = field(default_factory=lambda: GraphTables(TABLES))

    @property
    def num_ids(self) -> tuple[int, int, int]:
        """Sizes of the id spaces of head, relation and tail."""
        return self.num_entities, self.num_relations, self.num_entities

    @property
    def statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        return self.tables.get(
            "statistics",
            lambda: RelationStatistics.of(self.training, self.num_relations),
            num_bytes=RelationStatistics.num_bytes(self.num_relations),
            keep=True,
        )
