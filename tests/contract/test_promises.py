"""Promises 1, 2 and 4: never known, exactly k, same inputs same bytes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from negserve import CorruptedBatch
from negserve.sampling import NEGATIVE_SAMPLERS, BasicNegativeSampler, BernoulliNegativeSampler
from tests.contract.conftest import ALL_SPLITS, Place
from tests.support.oracle import known, legal_values

SAMPLERS = sorted(NEGATIVE_SAMPLERS)


def assert_same(one: CorruptedBatch, other: CorruptedBatch) -> None:
    assert one.replaced.dtype == other.replaced.dtype
    np.testing.assert_array_equal(one.replaced, other.replaced)
    np.testing.assert_array_equal(one.head_counts, other.head_counts)
    np.testing.assert_array_equal(one.relation_counts, other.relation_counts)
    assert (one.mask is None) == (other.mask is None)
    if one.mask is not None and other.mask is not None:
        np.testing.assert_array_equal(one.mask, other.mask)
    assert one.num_saturated == other.num_saturated


@pytest.mark.covers("Sample")
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("splits", [("training",), ALL_SPLITS], ids=["training", "all"])
def test_a_filtered_negative_is_never_known(place: Place, name: str, splits: tuple[str, ...]):
    sampler = NEGATIVE_SAMPLERS[name](place.factory, 64, True, filter_splits=splits)
    negatives, mask = sampler.sample(place.positives(2000))
    assert mask is not None
    is_known = known(place.graph, negatives.numpy(), splits)
    assert not is_known[mask.numpy()].any()
    # What is masked really has no legal candidate; only among typed candidates that happens.
    masked = (~mask).all(1)
    assert torch.equal(masked, (~mask).any(1))
    assert name == "pseudotyped" or not masked.any()
    for head, relation, tail in place.positives(2000)[masked][:20].tolist():
        of_relation = place.graph.mapped_triples[place.graph.mapped_triples[:, 1] == relation]
        for column in (0, 2):
            legal = legal_values(place.graph, (head, relation, tail), column, splits)
            assert not legal & set(of_relation[:, column].tolist())


@pytest.mark.parametrize("name", SAMPLERS)
def test_unfiltered_negatives_contain_known_triples(place: Place, name: str):
    sampler = NEGATIVE_SAMPLERS[name](place.factory, 64)
    negatives, mask = sampler.sample(place.positives(5000))
    assert mask is None
    assert known(place.graph, negatives.numpy(), ("training",)).any()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("num_negs_per_pos", "batch"), [(1, 1), (1, 10_000), (64, 1), (1000, 100), (3, 0)]
)
@pytest.mark.parametrize("filtered", [False, True])
def test_exactly_k_negatives_with_one_slot_changed(
    place: Place, name: str, num_negs_per_pos: int, batch: int, filtered: bool
):
    sampler = NEGATIVE_SAMPLERS[name](place.factory, num_negs_per_pos, filtered)
    positives = place.positives(batch)
    negatives, mask = sampler.sample(positives)
    assert negatives.shape == (batch, num_negs_per_pos, 3)
    assert negatives.dtype == torch.int64
    assert (mask is not None) == filtered
    assert mask is None or mask.shape == (batch, num_negs_per_pos)
    assert ((negatives != positives[:, None]).sum(-1) == 1).all()
    sizes = torch.tensor([place.graph.num_entities, place.graph.num_relations] * 2)[:3]
    assert (negatives >= 0).all()
    assert (negatives < sizes).all()


def test_a_large_batch_of_many_negatives_comes_whole(world: Place):
    negatives, _ = BasicNegativeSampler(world.factory, 1000).sample(world.positives(10_000))
    assert negatives.shape == (10_000, 1000, 3)


@pytest.mark.parametrize(
    "scheme",
    [
        scheme
        for length in (1, 2, 3)
        for scheme in itertools.combinations(("head", "relation", "tail"), length)
    ],
)
def test_only_the_slots_of_the_scheme_change_evenly(world: Place, scheme: tuple[str, ...]):
    k = 20
    sampler = BasicNegativeSampler(world.factory, k, corruption_scheme=scheme)
    positives = world.positives(500)
    negatives, _ = sampler.sample(positives)
    changes = (negatives != positives[:, None]).sum(1)  # (500, 3)
    for column, slot in enumerate(("head", "relation", "tail")):
        share = k / len(scheme) if slot in scheme else 0
        assert changes[:, column].min() >= int(share)
        assert changes[:, column].max() <= -int(-share // 1)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("filtered", [False, True])
def test_in_process_and_remote_give_equal_bytes(remote_place: Place, name: str, filtered: bool):
    place = remote_place
    cls = NEGATIVE_SAMPLERS[name]
    positives = place.positives(3000)
    for position in (0, 12345, 2**64 - 3000):
        assert_same(
            cls(place.graph, 10, filtered, seed=3).sample_compact(positives, position),
            cls(place.factory, 10, filtered, seed=3).sample_compact(positives, position),
        )


def test_neither_batch_split_nor_order_of_calls_nor_threads_matter(place: Place):
    sampler = BernoulliNegativeSampler(place.factory, 33, True, seed=5)
    positives = place.positives(1000)
    whole, whole_mask = sampler.sample(positives, position=77)
    begins = list(range(0, 1000, 90))

    def part(begin: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        return sampler.sample(positives[begin : begin + 90], position=77 + begin)

    with ThreadPoolExecutor(4) as threads:
        parts = dict(zip(reversed(begins), threads.map(part, reversed(begins)), strict=True))
    assert torch.equal(torch.cat([parts[begin][0] for begin in begins]), whole)
    assert whole_mask is not None
    masks = [parts[begin][1] for begin in begins]
    assert torch.equal(torch.cat([mask for mask in masks if mask is not None]), whole_mask)


def test_another_seed_or_position_gives_other_negatives(world: Place):
    positives = world.positives(100)
    base, _ = BasicNegativeSampler(world.factory, 8, seed=1).sample(positives, position=0)
    again, _ = BasicNegativeSampler(world.factory, 8, seed=1).sample(positives, position=0)
    moved, _ = BasicNegativeSampler(world.factory, 8, seed=1).sample(positives, position=100)
    other, _ = BasicNegativeSampler(world.factory, 8, seed=2).sample(positives, position=0)
    assert torch.equal(base, again)
    assert not torch.equal(base, moved)
    assert not torch.equal(base, other)


def test_calls_without_a_position_continue(world: Place):
    sampler = BasicNegativeSampler(world.factory, 8)
    positives = world.positives(100)
    first, _ = sampler.sample(positives[:60])
    second, _ = sampler.sample(positives[60:])
    assert sampler.position == 100
    whole, _ = sampler.sample(positives, position=0)
    assert sampler.position == 100
    assert torch.equal(torch.cat([first, second]), whole)
    sampler.position = 0
    assert torch.equal(sampler.sample(positives)[0], whole)
