"""A remote factory describes the graph correctly."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import negserve
from negserve import Client
from tests.contract.conftest import Place
from tests.support.graphs import DATA, GRAPHS, load
from tests.support.server_process import ServerProcess


@pytest.mark.covers("GetServer")
def test_the_server_is_of_this_version(client: Client):
    info = client.server_info()
    assert info.version == negserve.__version__
    assert info.algorithm_versions[-1] == load("world").open_sampler().config.algorithm_version


@pytest.mark.covers("ListDatasets")
def test_datasets_are_listed_in_their_order(client: Client):
    present = [name for name in GRAPHS if name == "world" or (DATA / name).is_dir()]
    assert client.list_datasets() == present


@pytest.mark.covers("GetDataset")
def test_counts_splits_and_fingerprint(remote_place: Place):
    graph, factory = remote_place.graph, remote_place.factory
    assert factory.num_entities == graph.num_entities
    assert factory.num_relations == graph.num_relations
    assert factory.num_triples == graph.num_triples
    assert factory.fingerprint == graph.fingerprint
    assert factory.num_triples_per_split == {s: len(t) for s, t in graph.splits.items()}
    assert factory.num_unseen == graph.num_unseen
    assert factory.split_fingerprints == graph.split_fingerprints
    assert factory.type_constraints_fingerprint == graph.type_constraints_fingerprint
    assert (factory.name == "world") == (factory.type_constraints_fingerprint is not None)
    assert factory.limits.max_negatives_per_message == 2**19


@pytest.mark.covers("GetVocabulary")
def test_vocabularies(remote_place: Place):
    graph, factory = remote_place.graph, remote_place.factory
    assert factory.entity_to_id == graph.entity_to_id
    assert factory.relation_to_id == graph.relation_to_id
    assert list(factory.entity_labels) == sorted(graph.entity_to_id)
    assert list(factory.relation_labels) == sorted(graph.relation_to_id)


@pytest.mark.covers("GetRelationStatistics")
def test_relation_statistics(remote_place: Place):
    ours, theirs = remote_place.graph.relation_statistics, remote_place.factory.relation_statistics
    np.testing.assert_array_equal(theirs.tails_per_head, ours.tails_per_head)
    np.testing.assert_array_equal(theirs.heads_per_tail, ours.heads_per_tail)
    np.testing.assert_array_equal(theirs.head_probability, ours.head_probability)


def test_a_remote_factory_is_picklable(remote_place: Place):
    copy = pickle.loads(pickle.dumps(remote_place.factory))
    assert copy.fingerprint == remote_place.factory.fingerprint
    assert copy.contains(remote_place.graph.mapped_triples[:5], ("training",)).all()
    known = copy.known(remote_place.graph.mapped_triples[:5, :2], "tail", ("training",))
    assert (known.counts > 0).all()


def test_constant_values_are_fetched_once(server: ServerProcess):
    with Client(server.target) as client:
        factory = client.triples_factory("world")
        labels = dict(factory.entity_to_id), dict(factory.relation_to_id)
        probability = factory.relation_statistics.head_probability
    # The connection is closed: what is asked again can't have been fetched again.
    assert (factory.entity_to_id, factory.relation_to_id) == labels
    assert factory.relation_statistics.head_probability is probability
    assert factory.num_triples == 5408
