"""Distinct values: pairwise different, never known, and as many as exist."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from negserve.sampling import BasicNegativeSampler, BernoulliNegativeSampler
from tests.contract.cases import CHUNKS, DISTINCT, OWN
from tests.contract.conftest import ALL_SPLITS, Place, on_graphs
from tests.support.oracle import known


@on_graphs(name=DISTINCT, filtered=[False, True], num_negs_per_pos=[1, 40, 400])
def test_valid_values_differ_and_are_as_many_as_there_are(
    place: Place, name: str, filtered: bool, num_negs_per_pos: int
):
    case = DISTINCT[name]
    options = {"filter_splits": ALL_SPLITS} if filtered else {}
    sampler = case.open(place.graph, place.factory, num_negs_per_pos, filtered, **options)
    positives = place.positives(40)
    batch = sampler.sample_compact(positives)
    assert batch.mask is not None
    negatives, mask, slots = batch.triples(positives.numpy()), batch.mask, batch.slots()
    if filtered:
        assert not known(place.graph, negatives, ALL_SPLITS)[mask].any()
    num_short = 0
    for i, triple in enumerate(positives.tolist()):
        valid = batch.rows()[i] + (slots[i].astype(np.int64) << 32)
        valid = valid[mask[i]]
        assert len(np.unique(valid)) == len(valid)
        legal = case.legal(place.graph, tuple(triple), ALL_SPLITS if filtered else ())
        drawable = {value + (column << 32) for column, some in legal.items() for value in some}
        assert set(valid.tolist()) <= drawable
        assert len(valid) == min(num_negs_per_pos, len(drawable))
        num_short += len(drawable) < num_negs_per_pos
    assert batch.num_saturated == num_short


@pytest.mark.parametrize("name", ["basic", "bernoulli"])
def test_each_value_is_as_likely_as_any_other(world: Place, name: str):
    case = OWN[name]
    options = {"corruption_scheme": ("tail",), "filter_splits": ALL_SPLITS, "distinct": True}
    sampler = case.open(world.graph, world.factory, 300, True, **options)
    triple = tuple(world.graph.mapped_triples[0].tolist())
    negatives, mask = sampler.sample(torch.tensor([triple] * 400))
    assert mask is not None
    assert mask.all()
    legal = case.legal(world.graph, triple, ALL_SPLITS)[2]
    values, counts = np.unique(negatives[..., 2].numpy(), return_counts=True)
    assert set(values.tolist()) == legal
    # Each of 400 rows has a value or not: a binomial count around the same mean.
    share = 300 / len(legal)
    deviations = (counts - 400 * share) / np.sqrt(400 * share * (1 - share))
    assert np.abs(deviations).max() < 5
    assert deviations.std() == pytest.approx(1, abs=0.1)


def test_all_other_entities_can_be_drawn_once_each(world: Place):
    num_others = world.graph.num_entities - 1
    sampler = BasicNegativeSampler(
        world.factory, num_others, corruption_scheme=("tail",), distinct=True
    )
    positives = world.positives(3)
    negatives, mask = sampler.sample(positives)
    assert mask is not None
    assert mask.all()
    for i in range(3):
        drawn = set(negatives[i, :, 2].tolist())
        assert drawn == set(range(num_others + 1)) - {int(positives[i, 2])}


@on_graphs()
def test_values_of_a_chunk_are_distinct(place: Place):
    case = CHUNKS["distinct chunks"]
    k = place.graph.num_entities if place.graph.num_entities < 3000 else 1000
    batch = case.open(place.graph, place.factory, k).sample_compact(place.positives(30))
    assert all(len(set(row.tolist())) == k for row in batch.replaced)
    with pytest.raises(ValueError, match=r"distinct|num_negs_per_pos"):
        BernoulliNegativeSampler(
            place.factory, place.graph.num_entities + 1, distinct=True, chunk_size=7
        )
