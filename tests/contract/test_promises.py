"""Promises 1, 2 and 4: never known, exactly k, same inputs, same bytes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from negserve import CorruptedBatch
from negserve.sampling import BasicNegativeSampler
from tests.contract.cases import CASES, CHUNKS, COLUMNS, DISTINCT, OWN, SAMPLERS
from tests.contract.conftest import ALL_SPLITS, Place, on_graphs
from tests.support.oracle import known


def assert_same(one: CorruptedBatch, other: CorruptedBatch) -> None:
    assert one.replaced.dtype == other.replaced.dtype
    assert one.position == other.position
    assert one.chunk_size == other.chunk_size
    np.testing.assert_array_equal(one.replaced, other.replaced)
    np.testing.assert_array_equal(one.head_counts, other.head_counts)
    np.testing.assert_array_equal(one.relation_counts, other.relation_counts)
    for ours, theirs in ((one.mask, other.mask), (one.log_q, other.log_q)):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == theirs.tobytes()
    assert one.num_saturated == other.num_saturated


@pytest.mark.covers("Sample")
@on_graphs(
    name=OWN,
    splits=[("training",), ALL_SPLITS],
    num_negs_per_pos=[1, 64, 1000],
    together=("name", "splits", "num_negs_per_pos"),
)
def test_a_filtered_negative_is_never_known(
    place: Place, name: str, splits: tuple[str, ...], num_negs_per_pos: int
):
    case = OWN[name]
    sampler = case.open(place.graph, place.factory, num_negs_per_pos, True, filter_splits=splits)
    positives = place.positives(200 if num_negs_per_pos == 1000 else 2000)
    batch = sampler.sample_compact(positives)
    assert batch.mask is not None
    negatives, mask = batch.triples(positives.numpy()), batch.mask
    assert not known(place.graph, negatives, splits)[mask].any()
    # What is masked really has no legal value; only among few candidates that happens.
    masked = (~mask).all(1)
    np.testing.assert_array_equal(masked, (~mask).any(1))
    assert batch.num_saturated == masked.sum()
    assert set(case.parts) & {"pseudotyped", "typed"} or not masked.any()
    for triple in positives[torch.from_numpy(masked)][:5].tolist():
        assert not any(case.legal(place.graph, tuple(triple), splits).values())


@on_graphs(name=OWN, filtered=[False, True])
def test_only_candidates_are_drawn(place: Place, name: str, filtered: bool):
    case = OWN[name]
    sampler = case.open(place.graph, place.factory, 64, filtered)
    positives = place.positives(300)
    batch = sampler.sample_compact(positives)
    slots, values = batch.slots(), batch.rows()
    num_saturated = 0
    for i, triple in enumerate(positives.tolist()):
        drawn = {column: set(values[i][slots[i] == column].tolist()) for column in range(3)}
        if any(
            some - case.drawable(place.graph, triple[1], column) for column, some in drawn.items()
        ):
            legal = case.legal(place.graph, tuple(triple), ("training",) if filtered else ())
            assert not any(legal.values()), "only a saturated positive gets other values"
            num_saturated += 1
    assert num_saturated <= batch.num_saturated < len(positives)


@on_graphs(name=SAMPLERS)
def test_unfiltered_negatives_contain_known_triples(place: Place, name: str):
    sampler = SAMPLERS[name].open(place.graph, place.factory, 64)
    negatives, mask = sampler.sample(place.positives(5000))
    assert mask is None
    assert known(place.graph, negatives.numpy(), ("training",)).any()


@on_graphs(
    name=[*OWN, *DISTINCT],
    shape=[(1, 1), (1, 10_000), (64, 1), (1000, 100), (3, 0)],
    filtered=[False, True],
)
def test_exactly_k_negatives_with_one_slot_changed(
    place: Place, name: str, shape: tuple[int, int], filtered: bool
):
    case, (num_negs_per_pos, batch) = CASES[name], shape
    sampler = case.open(place.graph, place.factory, num_negs_per_pos, filtered)
    positives = place.positives(batch)
    negatives, mask = sampler.sample(positives)
    assert negatives.shape == (batch, num_negs_per_pos, 3)
    assert negatives.dtype == torch.int64
    assert (mask is not None) == (filtered or case.distinct)
    assert mask is None or mask.shape == (batch, num_negs_per_pos)
    changed = negatives != positives[:, None]
    assert (changed.sum(-1) == 1).all()
    for slot in {"head", "relation", "tail"} - set(case.scheme):
        assert not changed[..., COLUMNS[slot]].any()
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


@on_graphs(
    ways=("remote", "aio", "mapped", "pulled"),
    name=CASES,
    splits=[(), ("training",), ALL_SPLITS],
    together=("name", "splits"),
)
def test_in_process_and_remote_give_equal_bytes(place: Place, name: str, splits: tuple[str, ...]):
    graph, case = place.graph, CASES[name]
    modes = (["exact"] if name not in CHUNKS or not splits else []) + (["mask"] if splits else [])
    positives = place.positives(1000)
    for mode in modes:
        options = {
            "filter_splits": splits,
            "filter_mode": mode,
            "seed": 3,
            "log_q": not case.distinct,
        }
        ours = case.open(graph, graph, 10, bool(splits), **options)
        theirs = case.open(graph, place.factory, 10, bool(splits), **options)
        for position in (0, 12345, 2**64 - 1000):
            assert_same(
                ours.sample_compact(positives, position), theirs.sample_compact(positives, position)
            )


@on_graphs(name=CASES)
def test_neither_batch_split_nor_order_of_calls_nor_threads_matter(place: Place, name: str):
    case = CASES[name]
    filtered = name not in CHUNKS
    options = {} if case.distinct else {"log_q": True}
    sampler = case.open(place.graph, place.factory, 33, filtered, seed=5, **options)
    positives = place.positives(1000)
    whole = sampler.sample_compact(positives, position=77)
    begins = list(range(0, 1000, 90))

    def part(begin: int) -> CorruptedBatch:
        return sampler.sample_compact(positives[begin : begin + 90], position=77 + begin)

    with ThreadPoolExecutor(4) as threads:
        parts = dict(zip(reversed(begins), threads.map(part, reversed(begins)), strict=True))
    for begin in begins:
        rows = slice(begin, begin + 90)
        assert_same(
            replace(parts[begin], replaced=parts[begin].rows(), chunk_size=1, num_saturated=0),
            replace(
                whole,
                position=77 + begin,
                replaced=whole.rows()[rows],
                head_counts=whole.head_counts[rows],
                relation_counts=whole.relation_counts[rows],
                mask=None if whole.mask is None else whole.mask[rows],
                log_q=None if whole.log_q is None else whole.log_q[rows],
                chunk_size=1,
                num_saturated=0,
            ),
        )
    assert sum(each.num_saturated for each in parts.values()) == whole.num_saturated


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
