"""PyG's knowledge graph models train with our negatives."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch

from negserve import Client, InvalidRequestError
from negserve.sampling import BasicNegativeSampler, BernoulliNegativeSampler
from negserve_server.graph import TriplesFactory
from tests.support.graphs import load

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # PyG itself uses torch.jit.script
    from torch_geometric.nn import ComplEx, TransE

    from negserve.integrations.torch_geometric import RemoteSampling, negative_edges


class SampledTransE(RemoteSampling, TransE):
    pass


class SampledComplEx(RemoteSampling, ComplEx):
    pass


@pytest.fixture(scope="module")
def world() -> TriplesFactory:
    return load("world")


def columns_of(world: TriplesFactory) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    heads, relations, tails = torch.from_numpy(world.mapped_triples.copy()).unbind(dim=1)
    return heads, relations, tails


def test_negative_edges(client: Client, world: TriplesFactory):
    heads, relations, tails = (column[:50] for column in columns_of(world))
    sampler = BernoulliNegativeSampler(client.triples_factory("world"), 4, filtered=True)
    drawn = negative_edges(sampler, torch.stack([heads, tails]), relations, position=9)
    assert drawn.edge_index.shape == (2, 200)
    assert drawn.edge_type.shape == (200,)
    assert drawn.mask is not None
    assert drawn.mask.all()
    reference = BernoulliNegativeSampler(world, 4, filtered=True)
    wanted, _ = reference.sample(torch.stack([heads, relations, tails], dim=1), position=9)
    rows = torch.stack([drawn.edge_index[0], drawn.edge_type, drawn.edge_index[1]], dim=1)
    assert torch.equal(rows.view(50, 4, 3), wanted)
    again = negative_edges(sampler, torch.stack([heads, tails]), relations)
    assert not torch.equal(again.edge_index, drawn.edge_index)
    unfiltered = BasicNegativeSampler(world, 1, corruption_scheme=("relation",))
    drawn = negative_edges(unfiltered, torch.stack([heads, tails]), relations)
    assert drawn.mask is None
    assert torch.equal(drawn.edge_index, torch.stack([heads, tails]))
    assert (drawn.edge_type != relations).all()


@pytest.mark.parametrize(
    ("cls", "k", "filtered"), [(SampledTransE, 1, True), (SampledComplEx, 8, True)]
)
def test_a_model_trains_through_pygs_loader_and_loss(
    client: Client, world: TriplesFactory, cls: Any, k: int, filtered: bool
):
    torch.manual_seed(0)
    sampler = BernoulliNegativeSampler(
        client.triples_factory("world"), k, filtered=filtered, seed=1
    )
    model = cls(world.num_entities, world.num_relations, 32, negative_sampler=sampler)
    drawn = []
    inner = model.random_sample

    def recorded(*args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        negatives = inner(*args)
        drawn.append(torch.stack(negatives, dim=1))
        return negatives

    model.random_sample = recorded
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        total = 0.0
        for batch in model.loader(*columns_of(world), batch_size=512, shuffle=True):
            optimizer.zero_grad()
            loss = model.loss(*batch)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        losses.append(total)
    assert losses[0] > losses[1] > losses[2]
    assert len(torch.cat(drawn)) == 3 * world.num_triples * k
    assert not world.contains(torch.cat(drawn).numpy(), ["training"]).any()


def test_a_model_is_copied_and_pickled_with_its_sampler(client: Client, world: TriplesFactory):
    """Copies of a model share its counter of positions, so that no two draw the same negatives."""

    def make() -> SampledTransE:
        sampler = BernoulliNegativeSampler(client.triples_factory("world"), 1, filtered=True)
        return SampledTransE(world.num_entities, world.num_relations, 8, negative_sampler=sampler)

    batch = [column[:20] for column in columns_of(world)]
    model, reference = make(), make()
    for drawn_by in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model):
        for ours, expected in zip(
            drawn_by.random_sample(*batch), reference.random_sample(*batch), strict=True
        ):
            assert torch.equal(ours, expected)


def test_refusals(world: TriplesFactory):
    sampler = BernoulliNegativeSampler(world)
    heads, relations, tails = columns_of(world)
    for edges, types in (
        (torch.stack([heads, tails], dim=1), relations),
        (torch.stack([heads, tails]), relations[1:]),
        (heads, relations),
    ):
        with pytest.raises(InvalidRequestError, match=r"give \(2, b\) and \(b,\)"):
            negative_edges(sampler, edges, types)
    with pytest.raises(InvalidRequestError, match="both need the same ids"):
        SampledTransE(5, world.num_relations, 8, negative_sampler=sampler)
    for options in ({"filtered": True, "filter_mode": "mask"}, {"chunk_size": 4}):
        masked = BernoulliNegativeSampler(world, 2, **options)
        with pytest.raises(InvalidRequestError, match="PyG does not support"):
            SampledTransE(world.num_entities, world.num_relations, 8, negative_sampler=masked)
