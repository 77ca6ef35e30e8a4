"""``negserve-server`` whose embedded graph has 8 million relations, with labels."""

from __future__ import annotations

import sys

import polars as pl

from negserve_server.cli import main
from negserve_server.graph import TriplesFactory
from negserve_server.graph.vocabulary import Vocabulary

NUM_RELATIONS = 8_000_000
_world = TriplesFactory.world


def _large_world() -> TriplesFactory:
    world = _world()
    labels = pl.int_range(NUM_RELATIONS, eager=True).cast(pl.String)
    return TriplesFactory(
        {"training": world.mapped_triples},
        num_entities=world.num_entities,
        num_relations=NUM_RELATIONS,
        entities=world.entities,
        relations=Vocabulary(labels),
    )


if __name__ == "__main__":
    TriplesFactory.world = staticmethod(_large_world)  # type: ignore[assignment, method-assign]
    main(sys.argv[1:])
