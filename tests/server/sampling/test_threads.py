"""Concurrent calls from many threads, without a lock: each gets its own bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tests.support.graphs import load

SAMPLERS: list[dict[str, Any]] = [
    {"kind": "basic", "num_negs_per_pos": 1},
    {"kind": "basic", "num_negs_per_pos": 7},
    {"kind": "bernoulli", "num_negs_per_pos": 200},
    {"kind": "degree", "num_negs_per_pos": 33},
    {"kind": "basic", "num_negs_per_pos": 60, "distinct": True},
    {"kind": "bernoulli", "num_negs_per_pos": 16, "chunk_size": 8, "filter_mode": "mask"},
]


def test_samplers_share_nothing_that_they_write() -> None:
    factory = load("world")
    samplers = [factory.open_sampler(filter_splits=("training",), **o) for o in SAMPLERS]
    alone = [sampler.sample(factory.mapped_triples, 0) for sampler in samplers]

    def draw(task: int) -> bool:
        which = task % len(samplers)
        made = samplers[which].sample(factory.mapped_triples, 0)
        return bool(
            np.array_equal(made.replaced, alone[which].replaced)
            and np.array_equal(made.head_counts, alone[which].head_counts)
            and np.array_equal(made.mask, alone[which].mask)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(draw, range(200)))
