"""Compile every kernel before the first request."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from negserve_server.graph import TriplesFactory
from negserve_server.sampling import SamplerConfig

#: One id space per width of the answers: uint8, uint16, uint32.
_NUM_ENTITIES = (3, 2**8 + 1, 2**16 + 1)


def warm_up(datasets: Mapping[str, TriplesFactory]) -> None:
    """Run every specialisation of the kernels once, and build the usual index of each graph.

    A kernel compiles when it first meets a combination of argument types; here those differ
    only in the dtype of the replaced ids.
    """
    for num_entities in _NUM_ENTITIES:
        _exercise(
            TriplesFactory(
                {"training": np.array([[0, 0, 1], [1, 1, 2]])}, num_entities=num_entities
            )
        )
    for factory in datasets.values():
        _exercise(factory)


def _exercise(factory: TriplesFactory) -> None:
    positives = factory.mapped_triples[:1]
    factory.contains(positives, ("training",))
    config = SamplerConfig(num_negs_per_pos=2, filter_splits=("training",))
    if factory.num_entities >= 2:
        factory.sampler(config).sample(positives, 0)
