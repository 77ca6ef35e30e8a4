"""Golden vectors: the bytes of algorithm version 2, pinned.

A trainer that resumes after an upgrade relies on them. Where one changes, the sampling
function has changed: raise the algorithm version, do not mend the vector.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from negserve.types.corrupted_batch import CorruptedBatch
from negserve_server.graph import TriplesFactory
from tests.support.graphs import load

TRAINING = ("training",)
EVERY_SLOT = ("head", "relation", "tail")
THIRD = tuple(range(0, 2571, 3))
EVERY_SPLIT = ("training", "validation", "testing")

# k = 10, seed 7, position 12345, every 50th training triple of `world`.
WORLD: dict[str, tuple[dict[str, Any], str]] = {
    "basic": (
        {"kind": "basic"},
        "2ea41b62be45c5aa120aca9a722d6d8af6bd167ca385af630b8d1d30cf458dba",
    ),
    "basic, exact": (
        {"kind": "basic", "filter_splits": TRAINING},
        "25304b47313d79baaaf6da32cf23ae27958c7722e22f6ce8740771ec75180970",
    ),
    "bernoulli": (
        {"kind": "bernoulli"},
        "c71ce727df0b995f84f1567eca539ebf5eb293a7ecfdb2bede5fc8927403a050",
    ),
    "bernoulli, exact": (
        {"kind": "bernoulli", "filter_splits": TRAINING},
        "fad86fc441316dd882a58e8fc441b13302033ed90cc857eafa9ab6e50f269381",
    ),
    "pseudotyped": (
        {"kind": "pseudotyped"},
        "4c9388128032fd5562f93b7d743b45924918f1d9c0fb508da66b2f9ff58d397e",
    ),
    "pseudotyped, exact": (
        {"kind": "pseudotyped", "filter_splits": TRAINING},
        "406bb2ec755e0b29c0401102067b3a7a59f286c9ffc43fe08cec3aac3963ba56",
    ),
    "typed": (
        {"kind": "typed"},
        "2805e2bcf6d72f8530ba42511812d494f543df7098000081c3c9d98451dcddb4",
    ),
    "typed, exact": (
        {"kind": "typed", "filter_splits": TRAINING},
        "730bdd42c1b04327bc7161f992f315d6350bd9dbf9db4418c3d58d1ae9d0fa18",
    ),
    "degree": (
        {"kind": "degree"},
        "4ef66f8d18fae6f788a8921c75737917209464d216ae4c1c45c22ccfd2ca942d",
    ),
    "degree, exact": (
        {"kind": "degree", "filter_splits": TRAINING},
        "3129428015ded12484d311aaac70f3797a2892a8780a41fa2f269987028c79c1",
    ),
    "bernoulli, exact over all splits": (
        {"kind": "bernoulli", "filter_splits": EVERY_SPLIT},
        "747804aa9c44e67447b650e3fac6ba045c14d49d30ca966587d54a04160fe79c",
    ),
    "bernoulli, mask": (
        {"kind": "bernoulli", "filter_splits": EVERY_SPLIT, "filter_mode": "mask"},
        "d7bba2765009120e1c54767590494549e702e4e57f4b078d375fdcff93ffb0fe",
    ),
    "basic, all slots, exact": (
        {"corruption_scheme": EVERY_SLOT, "filter_splits": TRAINING},
        "1af354fc36ff20830f8bacc7995ae4768e5b0479a1ec67906545f90f9c922b9f",
    ),
    "degree of relations, alpha 1": (
        {"kind": "degree", "alpha": 1.0, "corruption_scheme": ("relation",)},
        "026fc08331bdbaf72dd0fb1780850902e9fbb15ee48e30de894f4119ec9be7f7",
    ),
    "mixture, exact, log q": (
        {
            "kind": "mixture",
            "mixture": (("bernoulli", 2), ("typed", 1), ("degree", 1)),
            "filter_splits": TRAINING,
            "log_q": True,
        },
        "743083c0ffc7264a3fac054c1d46394994b704cd9e2043d451af5181f33b996c",
    ),
    "every third entity, exact": (
        {"candidates": THIRD, "filter_splits": TRAINING},
        "99d3588f24e78b1f7a74e44612c7f1dc00c7b3f413df626db235833c1d558d4a",
    ),
    "bernoulli, distinct, exact": (
        {"kind": "bernoulli", "distinct": True, "filter_splits": TRAINING},
        "e42d1c81b2f44f355278396f8b29ef25a842e506ac3a0b4388e123a291145f5f",
    ),
    "bernoulli, chunks of 4, mask": (
        {"kind": "bernoulli", "chunk_size": 4, "filter_splits": TRAINING, "filter_mode": "mask"},
        "89a19e3339f5614561b73fa6532831176da91404363c73681e3296b373a15b6d",
    ),
    "basic, chunks of 4, distinct": (
        {"chunk_size": 4, "distinct": True},
        "e8358e88d03c5394b99a860bf1a689388e28fc01e8ae1a2fb76cc2856d79327c",
    ),
    "degree, chunks of 4, mask": (
        {"kind": "degree", "chunk_size": 4, "filter_splits": TRAINING, "filter_mode": "mask"},
        "63e198aa0205d0d337bfebdcb014b283b9742727107c1856fc0baa260a128f20",
    ),
}


def digest(batch: CorruptedBatch) -> str:
    """SHA-256 over ids, where each slot's begin (all uint32, little-endian), and flags."""
    sha = hashlib.sha256()
    for array in (batch.replaced, batch.head_counts, batch.relation_counts):
        sha.update(array.astype("<u4").tobytes())
    if batch.mask is not None:
        sha.update(np.packbits(batch.mask, bitorder="little").tobytes())
    return sha.hexdigest()


def world_batch(**options: Any) -> CorruptedBatch:
    factory = load("world")
    sampler = factory.open_sampler(num_negs_per_pos=10, seed=7, **options)
    return sampler.sample(factory.mapped_triples[::50], 12345)


@pytest.mark.parametrize("name", WORLD)
def test_negatives_of_world_are_pinned(name: str) -> None:
    options, expected = WORLD[name]
    batch = world_batch(**options)
    assert digest(batch) == expected
    assert batch.num_saturated == 0


# Five entities; relation 0 is one-to-many, relation 1 many-to-one.
TOY = [(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 1, 4), (2, 1, 4), (3, 1, 4), (3, 1, 0)]
POSITIVES = [(0, 0, 1), (3, 1, 4)]

# Kind, filtered: per positive the ids in place of the head and in place of the tail.
TOY_VECTORS = {
    ("basic", False): [([3, 4, 2], [4, 4, 0]), ([4, 1, 2], [3, 2, 3])],
    ("basic", True): [([3, 4, 2], [0, 0, 0]), ([4, 0, 4], [2, 1, 2])],
    ("bernoulli", False): [([3, 4, 2, 1, 1], [0]), ([4, 1], [2, 3, 2, 3])],
    ("bernoulli", True): [([3, 4, 2, 1, 1], [0]), ([4, 0], [1, 2, 1, 2])],
    ("degree", False): [([2, 1, 2], [4, 4, 4]), ([2, 0, 1], [1, 2, 1])],
    ("pseudotyped", False): [([], [2, 3, 2, 3, 3, 3]), ([2, 1, 2], [0, 0, 0])],
    # All candidates are known: any id but the original in place of the tail, and masked.
    ("pseudotyped", True): [([], [3, 0, 2, 4, 4, 0]), ([], [3, 1, 2, 3, 2, 3])],
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
    assert batch.replaced.tolist() == [[3, 4, 1, 1, 4, 0], [4, 1, 0, 0, 2, 3]]
    assert batch.head_counts.tolist() == [2, 2]
    assert batch.relation_counts.tolist() == [2, 2]


def test_distinct_negatives_of_five_entities_are_pinned() -> None:
    batch = toy_batch(distinct=True, filter_splits=("training",))
    # Only five negatives of the second positive are legal: the sixth is any tail, and masked.
    assert batch.replaced.tolist() == [[3, 1, 4, 2, 0, 4], [4, 0, 1, 2, 3, 3]]
    assert batch.head_counts.tolist() == [4, 2]
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True] * 6, [True] * 5 + [False]]
    assert batch.num_saturated == 1
