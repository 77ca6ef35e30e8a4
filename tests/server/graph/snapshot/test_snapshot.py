"""A snapshot gives the graph that it was made of: equal bytes, nothing parsed, nothing copied."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.epoch import EpochConfig
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support.graphs import load

NAMES = ("world", "fb15k-237", "unlabelled", "wide")


@cache
def source(name: str) -> TriplesFactory:
    """A graph that was parsed, or given as arrays."""
    if name == "unlabelled":
        rng = np.random.default_rng(3)
        triples = np.stack([rng.integers(0, n, 3_000) for n in (700, 300, 700)], axis=1)
        return TriplesFactory(
            {"training": triples[:2_500], "testing": triples[2_500:]},
            num_entities=800,
            num_relations=301,
        )
    if name == "wide":  # each column 4 bytes, ids at the end of the id space, no testing triples
        last = 2**32 - 1
        return TriplesFactory(
            {"training": [(0, 0, 1), (last, 70_000, 3), (5, 1, last)], "validation": [(1, 1, 2)]},
            num_entities=2**32,
            num_relations=70_001,
        )
    return load(name)


@pytest.fixture(scope="module", params=NAMES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TriplesFactory, TriplesFactory]:
    """A graph, and the snapshot that was made of it."""
    parsed = source(request.param)
    folder = tmp_path_factory.mktemp("snapshot") / "graph"
    write_snapshot(parsed.parts, folder, index_splits=[tuple(parsed.columns)], made={})
    return parsed, TriplesFactory.from_snapshot(folder)


def test_counts_fingerprints_and_triples_are_equal(pair: tuple[TriplesFactory, TriplesFactory]):
    parsed, mapped = pair
    for name in (
        "num_entities",
        "num_relations",
        "num_unseen",
        "num_triples",
        "summary",
        "split_fingerprints",
        "fingerprint",
        "type_constraints_fingerprint",
    ):
        assert getattr(mapped, name) == getattr(parsed, name), name
    assert list(mapped.splits) == list(parsed.splits)
    for split, triples in parsed.splits.items():
        np.testing.assert_array_equal(mapped.splits[split], triples)
        columns = parsed.columns[split]
        assert mapped.columns[split].fingerprint(
            parsed.num_entities, parsed.num_relations
        ) == columns.fingerprint(parsed.num_entities, parsed.num_relations)


def test_labels_and_type_constraints_are_equal(pair: tuple[TriplesFactory, TriplesFactory]):
    parsed, mapped = pair
    assert dict(mapped.entity_to_id) == dict(parsed.entity_to_id)
    assert dict(mapped.relation_to_id) == dict(parsed.relation_to_id)
    if parsed.entities is not None and mapped.entities is not None:
        assert mapped.entities.labels() == parsed.entities.labels()
        assert mapped.entities.labels(3, 7) == parsed.entities.labels(3, 7)
        assert mapped.entities.num_bytes == parsed.entities.num_bytes
        for label, number in list(parsed.entity_to_id.items())[::97]:
            assert mapped.entity_to_id[label] == number
            assert label + "\0" not in mapped.entity_to_id
    types = parsed.type_constraints
    assert (types is None) == (mapped.type_constraints is None)
    if types is not None and mapped.type_constraints is not None:
        np.testing.assert_array_equal(mapped.type_constraints.heads, types.heads)
        np.testing.assert_array_equal(mapped.type_constraints.tails, types.tails)
        assert mapped.type_constraints.num_unseen == types.num_unseen


def test_statistics_and_lookups_are_equal(pair: tuple[TriplesFactory, TriplesFactory]):
    parsed, mapped = pair
    for name in ("tails_per_head", "heads_per_tail", "head_probability"):
        np.testing.assert_array_equal(
            getattr(mapped.relation_statistics, name), getattr(parsed.relation_statistics, name)
        )
    rows = np.concatenate([*parsed.splits.values()])[:5_000]
    rows = np.concatenate([rows, rows[:, [2, 1, 0]]])
    for splits in (("training",), tuple(parsed.columns)):
        np.testing.assert_array_equal(mapped.contains(rows, splits), parsed.contains(rows, splits))
    np.testing.assert_array_equal(
        mapped.subsampling_weights(rows), parsed.subsampling_weights(rows)
    )


def assert_equal(one: CorruptedBatch, other: CorruptedBatch) -> None:
    for name in ("replaced", "head_counts", "relation_counts", "num_saturated"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


@pytest.mark.parametrize("k", [1, 8])
@pytest.mark.parametrize("filtered", ["", "training", "all"])
def test_negatives_are_equal(pair: tuple[TriplesFactory, TriplesFactory], k: int, filtered: str):
    parsed, mapped = pair
    kinds = ["basic", "bernoulli", "pseudotyped"]
    if parsed.type_constraints is not None:
        kinds.append("typed")
    if parsed.num_entities < 2**32:  # the degrees of all would take 32 GB
        kinds.append("degree")
    splits = {"": (), "training": ("training",), "all": tuple(parsed.columns)}[filtered]
    positives = parsed.mapped_triples[:2_000]
    for kind in kinds:
        config = SamplerConfig(kind=kind, num_negs_per_pos=k, seed=5, filter_splits=splits)
        assert_equal(
            mapped.sampler(config).sample(positives, 11),
            parsed.sampler(config).sample(positives, 11),
        )


def test_epochs_are_equal(pair: tuple[TriplesFactory, TriplesFactory]):
    parsed, _ = pair
    relations = tuple(np.unique(parsed.columns["training"].relations)[:2].tolist())
    for config in (
        EpochConfig(batch_size=777, weights=True),
        EpochConfig(batch_size=50, relations=relations, shuffle=False),
    ):
        sampler = SamplerConfig(kind="bernoulli", num_negs_per_pos=2, filter_splits=("training",))
        one, other = (each.epoch(sampler, config, number=3) for each in pair)
        assert len(one) == len(other)
        for number in range(min(len(one), 3)):
            a, b = one.batch(number), other.batch(number)
            np.testing.assert_array_equal(a.positives, b.positives)
            assert_equal(a.negatives, b.negatives)
            if config.weights:
                np.testing.assert_array_equal(a.weights, b.weights)
