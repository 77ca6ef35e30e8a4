"""Pairs for which all values are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from negserve import Client
from negserve.sampling import BasicNegativeSampler, PseudoTypedNegativeSampler, TriplesFactory
from negserve_server import graph
from tests.contract.conftest import served
from tests.support.server_process import server_process

ENTITIES = "abcd"


def lines() -> str:
    """Make `full` hold all pairs, `heads` all heads of one tail, `one` a single triple."""
    triples = [(h, "full", t) for h in ENTITIES for t in ENTITIES]
    triples += [(h, "heads", "a") for h in ENTITIES]
    triples += [("a", "one", "b")]
    return "".join("\t".join(triple) + "\n" for triple in triples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saturated")
    (path / "train.txt").write_text(lines())
    return path


@pytest.fixture(scope="module")
def saturated_client(folder: Path) -> Iterator[Client]:
    with (
        server_process(
            "--dataset", f"toy={folder}", "--cache-dir", f"{folder}.cache", "--allow-pull"
        ) as server,
        Client(server.target) as client,
    ):
        yield client


@pytest.fixture
def factory(request: pytest.FixtureRequest, where: str, folder: Path) -> TriplesFactory:
    if where == "in-process":
        return graph.TriplesFactory.from_path(folder)
    return served(request.getfixturevalue("saturated_client"), where, "toy", request)


def triple(head: str, relation: str, tail: str) -> torch.Tensor:
    relations = ("full", "heads", "one")
    return torch.tensor([[ENTITIES.index(head), relations.index(relation), ENTITIES.index(tail)]])


def test_saturated_positives_are_masked_and_counted(factory: TriplesFactory):
    sampler = BasicNegativeSampler(factory, 10, filtered=True)
    positives = torch.cat([triple("a", "full", "b"), triple("a", "one", "b")])
    negatives, mask = sampler.sample(positives)
    assert mask is not None
    assert not mask[0].any()
    assert mask[1].all()
    assert ((negatives != positives[:, None]).sum(-1) == 1).all()
    assert sampler.sample_compact(positives).num_saturated == 1


def test_a_saturated_slot_falls_to_the_other(factory: TriplesFactory):
    positives = triple("b", "heads", "a")
    negatives, mask = BasicNegativeSampler(factory, 10, filtered=True).sample(positives)
    assert mask is not None
    assert mask.all()
    assert (negatives[..., 0] == positives[:, None, 0]).all(), "every head is known"
    assert (negatives[..., 2] != positives[:, None, 2]).all()


def test_excess_without_another_slot_is_masked(factory: TriplesFactory):
    positives = triple("b", "heads", "a")
    sampler = BasicNegativeSampler(factory, 10, filtered=True, corruption_scheme=("head",))
    negatives, mask = sampler.sample(positives)
    assert mask is not None
    assert not mask.any()
    assert (negatives[..., 0] != positives[:, None, 0]).all()


def test_a_relation_with_one_candidate_each_has_none_to_offer(factory: TriplesFactory):
    positives = triple("a", "one", "b")
    sampler = PseudoTypedNegativeSampler(factory, 6, filtered=True)
    negatives, mask = sampler.sample(positives)
    assert mask is not None
    assert not mask.any()
    assert ((negatives != positives[:, None]).sum(-1) == 1).all()
