"""Values shared by the positives of a chunk do not depend on messages and batches."""

from __future__ import annotations

import numpy as np
import torch

from negserve.sampling import BasicNegativeSampler, BernoulliNegativeSampler, expand
from tests.contract.cases import CHUNKS
from tests.contract.conftest import Place, on_graphs
from tests.contract.test_promises import assert_same


@on_graphs(name=CHUNKS, position=[0, 5, 2**64 - 1000])
def test_a_chunk_shares_its_values(place: Place, name: str, position: int):
    case = CHUNKS[name]
    sampler = case.open(place.graph, place.factory, 30)
    positives = place.positives(100)
    batch = sampler.sample_compact(positives, position)
    c, rows = case.chunk_size, batch.rows()
    chunks = np.array([(position + i) // c - position // c for i in range(100)])
    assert batch.replaced.shape == (chunks[-1] + 1, 30)
    assert rows.shape == batch.slots().shape == (100, 30)
    assert batch.mask is not None
    assert batch.mask.shape == (100, 30)
    for chunk in range(chunks[-1] + 1):
        of_chunk = rows[chunks == chunk]
        assert (of_chunk == of_chunk[0]).all()
    if case.scheme != ("relation",):
        assert len(np.unique(batch.replaced, axis=0)) == len(batch.replaced), "chunks differ"
    # Whole triples have the shared values in the slots of each positive.
    negatives, mask = sampler.sample(positives, position)
    assert mask is not None
    np.testing.assert_array_equal(mask.numpy(), batch.mask)
    np.testing.assert_array_equal(negatives.numpy(), batch.triples(positives.numpy()))
    assert torch.equal(negatives, expand(batch, positives))
    changed = (negatives != positives[:, None]).sum(-1)
    np.testing.assert_array_equal(changed.numpy(), batch.mask.astype(int))


def test_chunks_that_straddle_messages(world: Place):
    # 524 positives fit a message; 100 do not divide them.
    options = {"chunk_size": 100, "filter_mode": "mask", "seed": 8}
    positives = world.positives(3000)
    ours = BernoulliNegativeSampler(world.graph, 1000, True, **options)  # type: ignore[arg-type]
    theirs = BernoulliNegativeSampler(world.factory, 1000, True, **options)  # type: ignore[arg-type]
    for position in (0, 7, 99, 100):
        one, other = (each.sample_compact(positives, position) for each in (ours, theirs))
        assert len(one.replaced) == (position + 2999) // 100 - position // 100 + 1
        assert_same(one, other)


def test_a_chunk_of_several_messages_is_one_row(world: Place):
    sampler = BasicNegativeSampler(world.factory, 1000, chunk_size=2**20)
    batch = sampler.sample_compact(world.positives(2000), position=2**20 + 1)
    assert batch.replaced.shape == (1, 1000)
    assert batch.rows().shape == (2000, 1000)


def test_log_probabilities_of_several_messages(world: Place):
    # With log probabilities, half as many fit.
    options = {"log_q": True, "seed": 8, "chunk_size": 90}
    positives = world.positives(1000)
    assert_same(
        BernoulliNegativeSampler(world.graph, 999, **options).sample_compact(positives, 3),  # type: ignore[arg-type]
        BernoulliNegativeSampler(world.factory, 999, **options).sample_compact(positives, 3),  # type: ignore[arg-type]
    )


def test_calls_without_a_position_continue_within_a_chunk(world: Place):
    sampler = BasicNegativeSampler(world.factory, 8, chunk_size=16)
    positives = world.positives(100)
    whole = sampler.sample_compact(positives, position=0)
    parts = [sampler.sample_compact(positives[begin : begin + 30]) for begin in range(0, 100, 30)]
    assert sampler.position == 100
    np.testing.assert_array_equal(np.concatenate([part.rows() for part in parts]), whole.rows())
    assert [len(part.replaced) for part in parts] == [2, 3, 3, 2]


def test_a_chunk_of_one_is_no_chunk(world: Place):
    positives = world.positives(50)
    plain = BasicNegativeSampler(world.factory, 8, seed=2).sample_compact(positives)
    ones = BasicNegativeSampler(world.factory, 8, seed=2, chunk_size=1).sample_compact(positives)
    assert_same(plain, ones)
    assert ones.mask is None


def test_an_empty_batch_has_no_rows(world: Place):
    sampler = BasicNegativeSampler(world.factory, 8, chunk_size=16)
    negatives, mask = sampler.sample(world.positives(0), position=3)
    assert negatives.shape == (0, 8, 3)
    assert mask is not None
    assert mask.shape == (0, 8)
    assert sampler.sample_compact(world.positives(0), position=3).replaced.shape == (0, 8)
