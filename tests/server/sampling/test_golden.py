"""Golden vectors: the bytes of algorithm version 1, pinned.

A trainer that resumes after an upgrade relies on them. Where one changes, the sampling
function has changed: raise the algorithm version, do not mend the vector.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from negserve_server.graph import TriplesFactory
from negserve_server.sampling import SPLITS, CorruptedBatch
from tests.support.graphs import load

NO_SPLITS: tuple[str, ...] = ()

# k = 10, seed 7, position 12345, every 50th training triple of `world`.
WORLD = {
    ("basic", NO_SPLITS): "35592dbed18ee57e1bab640a551a67ea6d867eedd43b32465dcb5e1c57504a16",
    ("basic", SPLITS[:1]): "d841de7879b0684862c7f3c60dd31f108a01da3fe85b7dc0acddfd7b12e3ac81",
    ("basic", SPLITS): "f8fd87d7428563a38fec02f08e5a5c8c9cf432673fa28456ebfda3bcb799c428",
    ("bernoulli", NO_SPLITS): "7c77e96a7ce2f74141b55bf944408f9e95772754c26e0182d26fe844b6e50968",
    ("bernoulli", SPLITS[:1]): "bffb2e6b1c355a4bb2a967c36b1586e5551b51b6fd99fad3430d95a14d86996c",
    ("bernoulli", SPLITS): "69c2a5979be0c5c5d17fab214c0fefa496bf06128150eda6fad1f9083e14e20e",
    ("pseudotyped", NO_SPLITS): "8ecd156a17a2d2b10bf5e6857e66f0ef3332fb7137622c7477bec9d1cf18a222",
    ("pseudotyped", SPLITS[:1]): "585727447f107538aade665919ae78d233a4f4184666bfd7ba9f765eec03cc81",
    ("pseudotyped", SPLITS): "ae0ff82af0577f6a085e26e770dc9ced5a30ace829c08243c96ec9b16697a2f7",
}


def digest(batch: CorruptedBatch) -> str:
    """SHA-256 over the ids and where each slot's begin, all uint32, little-endian."""
    sha = hashlib.sha256()
    for array in (batch.replaced, batch.head_counts, batch.relation_counts):
        sha.update(array.astype("<u4").tobytes())
    return sha.hexdigest()


def world_batch(**options: Any) -> CorruptedBatch:
    factory = load("world")
    sampler = factory.open_sampler(num_negs_per_pos=10, seed=7, **options)
    return sampler.sample(factory.mapped_triples[::50], 12345)


@pytest.mark.parametrize(("kind", "filter_splits"), WORLD)
def test_negatives_of_world_are_pinned(kind: str, filter_splits: tuple[str, ...]) -> None:
    batch = world_batch(kind=kind, filter_splits=filter_splits)
    assert digest(batch) == WORLD[kind, filter_splits]
    assert batch.num_saturated == 0


def test_negatives_of_all_three_slots_are_pinned() -> None:
    batch = world_batch(corruption_scheme=("head", "relation", "tail"), filter_splits=("training",))
    assert digest(batch) == "533d4319c5ddaed57d50ce686a1eed83bf503e5fb295913a3b39a97abc0128e3"


# Five entities; relation 0 is one-to-many, relation 1 many-to-one.
TOY = [(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 1, 4), (2, 1, 4), (3, 1, 4), (3, 1, 0)]
POSITIVES = [(0, 0, 1), (3, 1, 4)]

# Kind, filtered: per positive the ids in place of the head and in place of the tail.
TOY_VECTORS = {
    ("basic", False): [([4, 1, 3], [2, 2, 0]), ([4, 1, 2], [3, 2, 3])],
    ("basic", True): [([4, 1, 3], [0, 0, 0]), ([4, 0, 4], [3, 2, 3])],
    ("bernoulli", False): [([4, 1, 3, 2, 2], [0]), ([4, 1], [2, 3, 2, 3])],
    ("bernoulli", True): [([4, 1, 3, 2, 2], [0]), ([4, 0], [2, 3, 2, 3])],
    ("pseudotyped", False): [([], [3, 2, 3, 2, 2, 2]), ([2, 1, 2], [0, 0, 0])],
    # All candidates are known: any id but the original, and masked.
    ("pseudotyped", True): [([4, 1], [3, 2, 2, 0]), ([4, 1, 2], [3, 2, 3])],
}


def toy_batch(**options: Any) -> CorruptedBatch:
    factory = TriplesFactory({"training": TOY}, num_entities=5, num_relations=2)
    return factory.open_sampler(num_negs_per_pos=6, seed=42, **options).sample(POSITIVES, 1000)


@pytest.mark.parametrize(("kind", "filtered"), TOY_VECTORS)
def test_negatives_of_five_entities_are_pinned(kind: str, filtered: bool) -> None:
    batch = toy_batch(kind=kind, filter_splits=("training",) if filtered else ())
    made = [
        (ids[:heads], ids[heads:])
        for ids, heads in zip(batch.replaced.tolist(), batch.head_counts.tolist(), strict=True)
    ]
    assert made == TOY_VECTORS[kind, filtered]
    assert batch.relation_counts.tolist() == [0, 0]
    assert batch.replaced.dtype == np.uint8
    saturated = filtered and kind == "pseudotyped"
    assert batch.num_saturated == (2 if saturated else 0)
    if filtered:
        assert batch.mask is not None
        assert batch.mask.tolist() == [[not saturated] * 6] * 2
    else:
        assert batch.mask is None


def test_negatives_of_five_entities_and_all_slots_are_pinned() -> None:
    batch = toy_batch(corruption_scheme=("head", "relation", "tail"))
    # Two heads, two relations, two tails each.
    assert batch.replaced.tolist() == [[4, 1, 1, 1, 2, 0], [4, 1, 0, 0, 2, 3]]
    assert batch.head_counts.tolist() == [2, 2]
    assert batch.relation_counts.tolist() == [2, 2]
