"""The filterer behaves as PyKEEN expects, and is exact."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.sampling import BasicNegativeSampler
from pykeen.sampling.filtering import PythonSetFilterer, filterer_resolver
from pykeen.triples import TriplesFactory

from negserve import FingerprintMismatchError, InvalidRequestError
from negserve.integrations.pykeen import RemoteFilterer
from tests.support.server_process import ServerProcess


@pytest.fixture
def filterer(nations: Nations, publisher: ServerProcess) -> RemoteFilterer:
    return RemoteFilterer(nations.training.mapped_triples, target=publisher.target)


def test_pykeen_finds_it_by_name():
    assert filterer_resolver.lookup("remote") is RemoteFilterer
    assert filterer_resolver.lookup("RemoteFilterer") is RemoteFilterer


def test_exactly_the_known_triples_are_filtered(filterer: RemoteFilterer, nations: Nations):
    triples = nations.training.mapped_triples
    assert not filterer(negative_batch=triples).any()
    assert filterer(negative_batch=triples + nations.training.num_entities).all()
    grid = torch.cartesian_prod(torch.arange(14), torch.arange(55), torch.arange(14))
    contained = filterer.contains(grid)
    assert int(contained.sum()) == len(triples)
    assert torch.equal(contained, PythonSetFilterer(triples).contains(grid))


@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (3, 1, 2), (0,)])
def test_every_shape(filterer: RemoteFilterer, nations: Nations, shape: tuple[int, ...]):
    batch = nations.training.mapped_triples[: max(1, torch.Size(shape).numel())]
    contained = filterer.contains(batch[: torch.Size(shape).numel()].reshape(*shape, 3))
    assert contained.shape == shape
    assert contained.dtype == torch.bool
    assert contained.all()


def test_ids_outside_the_graph_are_not_contained(filterer: RemoteFilterer):
    outside = torch.tensor(
        [[14, 0, 0], [0, 55, 0], [0, 0, 14], [-1, 0, 0], [0, -1, 0], [0, 0, -5], [2**40, 0, 0]]
    )
    assert not filterer.contains(outside).any()
    with pytest.raises(InvalidRequestError, match=r"\(7, 2\)"):
        filterer.contains(outside[:, :2])


def test_with_inverse_triples(publisher: ServerProcess, world_file: TriplesFactory):
    factory = world_file.clone_and_exchange_triples(
        world_file.mapped_triples, create_inverse_triples=True
    )
    triples = factory._add_inverse_triples_if_necessary(factory.mapped_triples)
    filterer = RemoteFilterer(triples, target=publisher.target, dataset="world")
    generator = torch.Generator().manual_seed(0)
    batch = triples[torch.randint(len(triples), (2000,), generator=generator)].clone()
    batch[1000:, 2] = torch.randint(-3, factory.num_entities + 3, (1000,), generator=generator)
    batch[:500, 1] ^= 1
    expected = PythonSetFilterer(triples).contains(batch)
    assert 0 < expected.sum() < 2000
    assert torch.equal(filterer.contains(batch), expected)


def test_splits_of_the_dataset(publisher: ServerProcess, world_file: TriplesFactory):
    from importlib.resources import files

    path = files("negserve_server.graph") / "world" / "test.txt"
    testing = TriplesFactory.from_path(
        str(path),
        entity_to_id=world_file.entity_to_id,
        relation_to_id=world_file.relation_to_id,
    )
    options: dict[str, Any] = {"target": publisher.target, "dataset": "world"}
    only = RemoteFilterer(world_file.mapped_triples, **options)
    both = RemoteFilterer(
        world_file.mapped_triples, filter_splits=("training", "testing"), **options
    )
    assert not only.contains(testing.mapped_triples).any()
    assert both.contains(testing.mapped_triples).all()
    assert both.contains(world_file.mapped_triples).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_pykeens_own_samplers_use_it(nations: Nations, publisher: ServerProcess, copied: Any):
    triples = nations.training.mapped_triples
    sampler = BasicNegativeSampler(
        mapped_triples=triples, num_negs_per_pos=50, filtered=True, filterer="remote",
        filterer_kwargs={"target": publisher.target},
    )  # fmt: skip
    negatives, mask = copied(sampler).sample(triples)
    assert torch.equal(mask, PythonSetFilterer(triples)(negatives))
    assert not mask.all()


def test_ids_that_no_triple_has(nations: Nations, publisher: ServerProcess):
    """The dataset's id space may be larger than the ids in the triples."""
    from negserve import Client

    with Client(publisher.target) as client:
        client.publish(
            "wide", nations.training.mapped_triples[:77], num_entities=20, num_relations=60
        )
    for sizes in ({}, {"num_entities": 20, "num_relations": 60}):
        filterer = RemoteFilterer(
            nations.training.mapped_triples[:77], target=publisher.target, dataset="wide", **sizes
        )
        assert filterer.contains(nations.training.mapped_triples).sum() == 77
    wrong = RemoteFilterer(
        nations.training.mapped_triples[:77], target=publisher.target, dataset="wide",
        num_entities=19, num_relations=60,
    )  # fmt: skip
    with pytest.raises(FingerprintMismatchError):
        wrong.contains(nations.training.mapped_triples)
