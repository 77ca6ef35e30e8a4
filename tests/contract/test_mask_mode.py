"""Filter mode mask: unfiltered draws, and an exact mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contract.cases import CHUNKS, DISTINCT, OWN
from tests.contract.conftest import ALL_SPLITS, WAYS, Place, on_graphs
from tests.support.oracle import known
from tests.support.pairwise import pairwise


@on_graphs(name=[*OWN, *DISTINCT], splits=[("training",), ALL_SPLITS])
def test_the_mask_is_what_contains_says(place: Place, name: str, splits: tuple[str, ...]):
    case = {**OWN, **DISTINCT}[name]
    positives = place.positives(500)
    plain = case.open(place.graph, place.factory, 50, seed=4)
    sampler = case.open(
        place.graph, place.factory, 50, True, seed=4, filter_splits=splits, filter_mode="mask"
    )
    drawn, unmasked = sampler.sample_compact(positives), plain.sample_compact(positives)
    for field in ("replaced", "head_counts", "relation_counts"):
        np.testing.assert_array_equal(getattr(drawn, field), getattr(unmasked, field))
    negatives, mask = sampler.sample(positives, position=0)
    assert mask is not None
    is_known = place.factory.contains(negatives.reshape(-1, 3).numpy(), splits)
    is_known = is_known.reshape(mask.shape)
    np.testing.assert_array_equal(is_known, known(place.graph, negatives.numpy(), splits))
    assert is_known.any()
    if unmasked.mask is not None:  # of distinct ones, there may be too few
        np.testing.assert_array_equal(mask.numpy(), unmasked.mask & ~is_known)
        return
    surplus = ~mask.numpy() & ~is_known
    assert not (mask.numpy() & is_known).any()
    # Beyond what is known, only a positive without any legal value is masked.
    assert surplus.any(1).sum() <= drawn.num_saturated
    for triple in positives[torch.from_numpy(surplus.any(1))][:5].tolist():
        assert not any(case.legal(place.graph, tuple(triple), ()).values())


@on_graphs(name=CHUNKS)
def test_in_chunks_the_original_is_masked_too(place: Place, name: str):
    case = CHUNKS[name]
    positives = place.positives(500)
    sampler = case.open(
        place.graph, place.factory, 40, True, filter_splits=ALL_SPLITS, filter_mode="mask"
    )
    negatives, mask = sampler.sample(positives)
    assert mask is not None
    is_original = (negatives == positives[:, None]).all(-1)
    is_known = torch.from_numpy(known(place.graph, negatives.numpy(), ALL_SPLITS))
    assert torch.equal(mask, ~(is_known | is_original))


@pytest.mark.filterwarnings("ignore::negserve.UnknownPositivesWarning")
@pytest.mark.parametrize(
    ("where", "name", "filtered"),
    pairwise({"where": WAYS, "name": CHUNKS, "filtered": [False, True]}),
)
def test_the_original_is_masked_where_it_is_not_known(world: Place, name: str, filtered: bool):
    case = CHUNKS[name]
    # A chunk of seven positives that no split has: the original is drawn, but not known.
    strangers = world.positives(2100)
    strangers[:, 2] = (strangers[:, 2] * 31 + 7) % world.graph.num_entities
    strangers = strangers[torch.from_numpy(~known(world.graph, strangers.numpy(), ALL_SPLITS))]
    mode = "mask" if filtered else "exact"
    sampler = case.open(world.graph, world.factory, 200, filtered, filter_mode=mode)
    negatives, mask = sampler.sample(strangers)
    assert mask is not None
    is_original = (negatives == strangers[:, None]).all(-1)
    assert is_original.any()
    is_known = torch.from_numpy(known(world.graph, negatives.numpy(), ("training",)))
    assert torch.equal(mask, ~(is_known & filtered | is_original))
