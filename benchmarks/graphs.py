"""The graphs that are measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from negserve_server.graph import TriplesFactory

_DATA = Path(os.environ.get("NEGSERVE_DATA", Path(__file__).parents[2].joinpath("shared", "data")))


def fb15k_237() -> tuple[str, TriplesFactory]:
    """Load FB15k-237 from ``NEGSERVE_DATA``, or make a graph of its size; with its name."""
    path = _DATA / "fb15k-237"
    if path.is_dir():
        return "fb15k-237", TriplesFactory.from_path(path)
    rng = np.random.default_rng(0)
    triples = np.stack(
        [
            rng.zipf(1.4, 400_000) % 14_505,
            rng.zipf(1.2, 400_000) % 237,
            rng.zipf(1.4, 400_000) % 14_505,
        ],
        axis=1,
    )
    return "synthetic like fb15k-237", TriplesFactory(
        {"training": triples[:272_115]}, num_entities=14_505, num_relations=237
    )
