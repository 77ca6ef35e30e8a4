"""Long lists of any shape give the same values as short ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negserve.types.config import SamplerConfig
from negserve_server.graph import TriplesFactory
from negserve_server.index.known_lists import SHORT_LIST
from tests.support.programs.examples import examples

NUM_ENTITIES = 5000


def assert_complement(known: np.ndarray) -> None:  # type: ignore[type-arg]
    """Draw many tails of a pair with these known ones, and compare the set with the complement."""
    triples = np.stack([np.zeros_like(known), np.zeros_like(known), known], axis=1)
    graph = TriplesFactory({"training": triples}, num_entities=NUM_ENTITIES)
    config = SamplerConfig(
        num_negs_per_pos=2000, corruption_scheme=("tail",), filter_splits=("training",)
    )
    batch = graph.sampler(config).sample(np.tile(triples[:1], (40, 1)), 0)
    complement = np.setdiff1d(np.arange(NUM_ENTITIES), known)
    drawn = np.unique(batch.replaced)
    assert np.isin(drawn, complement).all()
    # Of m values, 80,000 draws miss about m * exp(-80000 / m).
    assert len(drawn) >= len(complement) - 5
    np.testing.assert_array_equal(graph.filter_index(("training",)).known_tails(0, 0), known)


@pytest.mark.parametrize("length", [1, SHORT_LIST, SHORT_LIST + 1, 200, 4000, NUM_ENTITIES - 1])
@pytest.mark.parametrize("shape", ["first", "last", "spread", "clusters"])
def test_lists_of_every_length_and_shape(length: int, shape: str):
    ids = np.arange(NUM_ENTITIES)
    known = {
        "first": ids[:length],
        "last": ids[-length:],
        "spread": np.linspace(0, NUM_ENTITIES - 1, length).astype(np.int64),
        "clusters": np.sort(np.argsort((ids // 37) % 11, kind="stable")[:length]),
    }[shape]
    assert_complement(known)


@settings(deadline=None, max_examples=examples(50))
@given(st.sets(st.integers(0, NUM_ENTITIES - 1), min_size=SHORT_LIST + 1, max_size=400))
def test_any_long_list(known: set[int]):
    assert_complement(np.array(sorted(known)))
