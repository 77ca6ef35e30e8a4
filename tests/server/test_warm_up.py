"""No request waits for a compiler."""

from __future__ import annotations

import itertools

import numpy as np

from negserve.types.config import SLOTS, SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import labels
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.index import members, pair_lookups, pair_words
from negserve_server.report import false_negative_counter as false_negatives
from negserve_server.report import false_negative_report
from negserve_server.sampling import weights
from negserve_server.sampling.kernels import (
    corrupt,
    corrupt_chunks,
    corrupt_one,
    corrupt_rows,
    philox,
)
from negserve_server.sampling.kernels.epochs import draw_runs, permute
from negserve_server.warm_up import warm_up

FILTER = {"filter_splits": ("training",)}
OPTIONS: list[dict[str, object]] = [
    {"kind": "basic", "corruption_scheme": ("head", "relation", "tail")},
    {"kind": "basic", "distinct": True, "chunk_size": 2},
    {"kind": "bernoulli", "candidates": (1, 2, 3), **FILTER},
    {"kind": "bernoulli", "distinct": True, **FILTER},
    {"kind": "pseudotyped", **FILTER},
    {"kind": "typed", "filter_mode": "mask", **FILTER},
    {"kind": "degree", "log_q": True, **FILTER},
    {"kind": "degree", "chunk_size": 2},
    {"kind": "mixture", "mixture": (("basic", 1), ("degree", 2)), "log_q": True},
]


def test_warm_up_compiles_all_that_requests_use():
    warm_up({})
    compiled = [
        corrupt.corrupt_scratch,
        corrupt_chunks.chunks_scratch,
        corrupt_one.one_scratch,
        corrupt_rows.corrupt_rows,
        pair_lookups.contains_values,
        pair_lookups.count_values,
        pair_lookups.find_one,
        pair_lookups.find_values,
        pair_lookups.copy_values,
        pair_words.measure_buckets,
        pair_words.fill_buckets,
        pair_words.fill_directory,
        members.fill_members,
        labels.number_hashes,
        labels.insert_hashes,
        weights._cumulate,
        permute.permute,
        draw_runs.draw_runs,
        philox.blocks,
        false_negatives._merge,
    ]
    before = [len(kernel.signatures) for kernel in compiled]
    assert before == [1] * len(
        compiled
    )  # one combination of types each, also where one calls another
    for num_entities, num_relations in itertools.product((5, 300, 70_000), (2, 300)):
        triples = np.array([[0, 0, 1], [1, 1, 2], [4, 1, 0]])
        factory = TriplesFactory(
            {"training": triples, "validation": triples[:1]},
            num_entities=num_entities,
            num_relations=num_relations,
            type_constraints=TypeConstraints(heads=[(0, 0), (0, 3)], tails=[(1, 2)]),
        )
        factory.contains(triples, ("validation",))
        for slot in SLOTS:
            factory.known(np.zeros((2, 2), dtype=np.int64), slot, ("validation",))
        for options in OPTIONS:
            for k in (1, 3):
                config = SamplerConfig(num_negs_per_pos=k, **options)  # type: ignore[arg-type]
                factory.sampler(config).sample(triples, 7)
        epoch = factory.epoch(SamplerConfig(seed=3), EpochConfig(batch_size=2, weights=True))
        epoch.batch(0)
        false_negative_report(factory)
    assert [len(kernel.signatures) for kernel in compiled] == before
