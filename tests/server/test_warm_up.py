"""No request waits for a compiler."""

from __future__ import annotations

import itertools

import numpy as np

from negserve_server.graph import TriplesFactory
from negserve_server.index import kernels as index_kernels
from negserve_server.index import rank_directory
from negserve_server.sampling import KINDS, SamplerConfig, kernels
from negserve_server.warm_up import warm_up


def test_warm_up_compiles_all_that_requests_use():
    warm_up({})
    compiled = [
        kernels.corrupt,
        index_kernels.contains_values,
        index_kernels.fill_table,
        rank_directory._sizes,
        rank_directory._fill,
    ]
    before = [len(kernel.signatures) for kernel in compiled]
    assert all(before)
    for num_entities, num_relations in itertools.product((5, 300, 70_000), (2, 300, 70_000)):
        triples = np.array([[0, 0, 1], [1, 1, 2], [4, 1, 0]])
        factory = TriplesFactory(
            {"training": triples, "validation": triples[:1]},
            num_entities=num_entities,
            num_relations=num_relations,
        )
        factory.contains(triples, ("validation",))
        for kind, splits in itertools.product(KINDS, ((), ("training",))):
            scheme = ("head", "relation", "tail") if kind == "basic" else ("head", "tail")
            config = SamplerConfig(
                kind=kind, num_negs_per_pos=3, corruption_scheme=scheme, filter_splits=splits
            )
            factory.sampler(config).sample(triples, 7)
    assert [len(kernel.signatures) for kernel in compiled] == before
