"""Compile every kernel before the first request."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import labels
from negserve_server.report import false_negative_report
from negserve_server.sampling import Permutation


def warm_up(datasets: Mapping[str, TriplesFactory]) -> None:
    """Run every kernel once, and build the usual index of each graph.

    A kernel is compiled for each combination of argument types, and each has only one: widths,
    kinds and options are values, not types.
    """
    small = TriplesFactory({"training": np.array([[0, 0, 1], [1, 1, 2]])})
    prepare(small)
    positives = small.mapped_triples[:1]
    small.open_sampler(
        kind="degree", filter_splits=("training",), filter_mode="mask", chunk_size=2
    ).sample(positives, 0)
    small.open_sampler(kind="basic", filter_splits=("training",)).sample(positives, 0)
    small.epoch(SamplerConfig(), EpochConfig(weights=True)).batch(0)
    Permutation(3, seed=0, number=0).at(0, 3)
    small.known(positives[:, :2], "tail", ("training",))
    # Kernels of commands and of reading, which images contain, too.
    false_negative_report(small)
    labels.warm_up()
    for factory in datasets.values():
        prepare(factory)


def prepare(factory: TriplesFactory) -> None:
    """Build the usual index of a graph, and compute its fingerprints."""
    assert factory.fingerprint
    positives = factory.columns["training"].rows(slice(1))
    factory.contains(positives, ("training",))
    factory.filter_index(("training",)).known_tails(*positives[0, :2].tolist())
    config = SamplerConfig(num_negs_per_pos=2, filter_splits=("training",))
    if factory.num_entities >= 2:
        factory.sampler(config).sample(positives, 0)
