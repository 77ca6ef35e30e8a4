"""A dataset that is computed in the trainer's process is the one that the server computes."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from negserve import (
    Client,
    EpochConfig,
    InvalidRequestError,
    LocalTriplesFactory,
    NotAllowedError,
    SamplerConfig,
    UnknownPositivesWarning,
    aio,
)
from negserve.data import TripleBatch, TripleStream
from negserve.sampling import BernoulliNegativeSampler
from tests.contract.conftest import ALL_SPLITS, SnapshotServers
from tests.contract.test_promises import assert_same
from tests.support.graphs import GRAPHS, load

SAMPLER = SamplerConfig(
    kind="bernoulli", num_negs_per_pos=5, filter_splits=ALL_SPLITS, seed=2**63 + 11
)


@pytest.fixture(params=["mapped", "pulled"])
def factory(
    request: pytest.FixtureRequest, snapshots: SnapshotServers, cache_dir: Path
) -> LocalTriplesFactory:
    """The embedded graph, computed here."""
    client = snapshots.near if request.param == "mapped" else snapshots.far
    return client.triples_factory("world", compute="client", cache_dir=cache_dir)


@pytest.mark.covers("GetSnapshot")
@pytest.mark.parametrize("name", GRAPHS)
def test_it_describes_the_graph_as_the_server_does(snapshots: SnapshotServers, name: str):
    local = snapshots.near.triples_factory(name, compute="client")
    remote = snapshots.near.triples_factory(name)
    for attribute in (
        "name", "num_entities", "num_relations", "num_triples", "fingerprint",
        "num_triples_per_split", "num_unseen", "split_fingerprints",
        "type_constraints_fingerprint", "entity_to_id", "relation_to_id", "entity_labels",
        "relation_labels",
    ):  # fmt: skip
        assert getattr(local, attribute) == getattr(remote, attribute), attribute
    for column in ("tails_per_head", "heads_per_tail", "head_probability"):
        np.testing.assert_array_equal(
            getattr(local.relation_statistics, column), getattr(remote.relation_statistics, column)
        )
    assert local.num_positives() == remote.num_positives()
    assert local.num_positives([0, 2]) == remote.num_positives([0, 2])


def test_ids_of_another_id_space_are_told_once_a_sampler(factory: LocalTriplesFactory):
    triples = load("world").mapped_triples
    order = np.random.default_rng(7).permutation(factory.num_entities)
    foreign = np.stack([order[triples[:, 0]], triples[:, 1], order[triples[:, 2]]], axis=1)
    sampler = factory.open_sampler()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for begin in range(0, 5000, 250):
            sampler.sample(foreign[begin : begin + 250], begin)
    assert [each.category for each in caught] == [UnknownPositivesWarning]
    assert [each.filename for each in caught] == [__file__]
    assert "of the first 1000 positives are triples of dataset 'world'" in str(caught[0].message)
    factory.open_sampler().sample(triples, 0)  # warnings are errors


def test_the_server_s_folder_is_mapped_on_its_machine_and_downloaded_elsewhere(
    snapshots: SnapshotServers, tmp_path: Path
):
    near = snapshots.near.triples_factory("world", compute="client", cache_dir=tmp_path)
    assert near.folder == snapshots.folder / "world"
    assert not list(tmp_path.iterdir())
    far = snapshots.far.triples_factory("world", compute="client", cache_dir=tmp_path)
    assert far.folder.parent == tmp_path
    assert [each.name for each in tmp_path.iterdir()] == [far.folder.name]  # nothing unfinished
    for path in (snapshots.folder / "world").iterdir():
        assert (far.folder / path.name).read_bytes() == path.read_bytes()


def test_without_a_cache_dir_the_copy_is_among_the_user_s_caches(
    snapshots: SnapshotServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    far = snapshots.far.triples_factory("world", compute="client")
    assert far.folder.parent == tmp_path / "negserve" / "snapshots"


@pytest.mark.parametrize(
    "config",
    [
        EpochConfig(batch_size=300, rank=2, world_size=4),
        EpochConfig(batch_size=300, rank=3, world_size=4, tail="drop", weights=True),
        EpochConfig(batch_size=130, worker=1, num_workers=2, tail="wrap"),
        EpochConfig(batch_size=100, relations=(5, 1, 2, 1), shuffle=False),
    ],
    ids=["ranks", "drop", "workers", "relations"],
)
def test_epochs_are_those_of_the_server(
    snapshots: SnapshotServers, factory: LocalTriplesFactory, config: EpochConfig
):
    remote = snapshots.near.triples_factory("world").epochs(SAMPLER, config, digest=True)
    local = factory.epochs(SAMPLER, config, digest=True)
    for _ in range(2):
        expected = list(remote)
        found = list(local)
        assert len(found) == len(expected) > 0
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours.epoch, ours.next_start) == (theirs.epoch, theirs.next_start)
            np.testing.assert_array_equal(ours.positives, theirs.positives)
            assert_same(ours.negatives, theirs.negatives)
            assert (ours.weights is None) == (theirs.weights is None)
            if ours.weights is not None:
                np.testing.assert_array_equal(ours.weights, theirs.weights)
        assert local.state_dict() == remote.state_dict()
    # From the middle of an epoch on, also where the other one was.
    iterator = iter(local)
    for _ in range(3):
        next(iterator)
    del iterator
    remote.load_state_dict(pickle.loads(pickle.dumps(local)).state_dict())
    assert next(iter(remote)).next_start == next(iter(local)).next_start


def test_it_is_pickled_as_the_place_of_its_snapshot(factory: LocalTriplesFactory):
    sampler = BernoulliNegativeSampler(factory, 3, filtered=True)
    positives = torch.tensor(load("world").mapped_triples[:50])
    data = pickle.dumps((factory, sampler))
    assert len(data) < 10_000
    copy, its_sampler = pickle.loads(data)
    assert copy.fingerprint == factory.fingerprint
    assert copy.contains(load("world").mapped_triples[:5], ("training",)).all()
    torch.testing.assert_close(
        its_sampler.sample(positives, position=9), sampler.sample(positives, position=9)
    )


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_loader_compute(snapshots: SnapshotServers, context: str):
    factory = snapshots.near.triples_factory("world", compute="client")
    options: dict[str, Any] = {"sampler": SAMPLER, "batch_size": 512}
    loader = DataLoader(
        TripleStream(factory, **options),
        batch_size=None,
        # A spawned worker imports torch anew, and one shows that it can.
        num_workers=2 if context == "fork" else 1,
        multiprocessing_context=multiprocessing.get_context(context),
    )
    found: list[TripleBatch] = list(loader)
    expected = list(TripleStream(snapshots.near.triples_factory("world"), **options))
    assert len(found) == len(expected) == 11
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.positives, theirs.positives)
        assert torch.equal(ours.negatives, theirs.negatives)


def test_asyncio_opens_it_too(snapshots: SnapshotServers, tmp_path: Path):
    async def open_both() -> tuple[LocalTriplesFactory, Path]:
        async with aio.Client(snapshots.far.target) as client:
            local = await client.triples_factory("world", compute="client", cache_dir=tmp_path)
            return local, await client.pull("world", tmp_path / "by hand")

    factory, folder = asyncio.run(open_both())
    assert factory.contains(load("world").mapped_triples[:5], ("training",)).all()
    assert (folder / "manifest.json").read_bytes() == (
        factory.folder / "manifest.json"
    ).read_bytes()


def test_ids_outside_the_graph_are_refused(factory: LocalTriplesFactory):
    with pytest.raises(InvalidRequestError, match="out of range"):
        factory.open_sampler().sample([[0, 0, factory.num_entities]], 0)


def test_other_places_to_compute_are_refused(client: Client, tmp_path: Path):
    with pytest.raises(InvalidRequestError, match="give 'server' or 'client'"):
        client.triples_factory("world", compute="gpu")  # type: ignore[call-overload]
    with pytest.raises(InvalidRequestError, match="no effect"):
        client.triples_factory("world", cache_dir=tmp_path)  # type: ignore[call-overload]


def test_without_leave_nothing_is_told(client: Client, tmp_path: Path):
    with pytest.raises(NotAllowedError, match="--allow-pull") as refused:
        client.triples_factory("world", compute="client", cache_dir=tmp_path)
    assert refused.value.reason == "PULL_NOT_ALLOWED"
    assert refused.value.metadata == {"value": "world"}
