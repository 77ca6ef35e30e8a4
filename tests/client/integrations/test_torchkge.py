"""TorchKGE trains with our negatives, through its own loops."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch.optim import Adam
from torchkge.data_structures import KnowledgeGraph
from torchkge.models import TransEModel
from torchkge.sampling import NegativeSampler
from torchkge.utils import MarginLoss
from torchkge.utils.training import TrainDataLoader

from negserve import Client, InvalidRequestError
from negserve.integrations.torchkge import RemoteNegativeSampler
from negserve.sampling import BernoulliNegativeSampler
from negserve_server.graph import TriplesFactory
from tests.support.graphs import load

K = 3
SEED = 5

# TorchKGE is older than pandas 3.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def knowledge_graph(graph: TriplesFactory, split: str = "training") -> KnowledgeGraph:
    entities, relations = list(graph.entity_to_id), list(graph.relation_to_id)
    rows = [(entities[h], entities[t], relations[r]) for h, r, t in graph.splits[split].tolist()]
    return KnowledgeGraph(
        df=pd.DataFrame(rows, columns=["from", "to", "rel"]),
        ent2ix=graph.entity_to_id,
        rel2ix=graph.relation_to_id,
    )


@pytest.fixture(scope="module")
def world() -> TriplesFactory:
    return load("world")


@pytest.fixture(scope="module")
def kg(world: TriplesFactory) -> KnowledgeGraph:
    return knowledge_graph(world)


def columns_of(kg: KnowledgeGraph) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return kg.head_idx, kg.tail_idx, kg.relations


def test_negatives_are_ours_in_the_order_of_torchkge(
    client: Client, world: TriplesFactory, kg: KnowledgeGraph
):
    heads, tails, relations = (column[:100] for column in columns_of(kg))
    graph = client.triples_factory("world")
    sampler = RemoteNegativeSampler(kg, n_neg=K, graph=graph, seed=SEED)
    assert isinstance(sampler, NegativeSampler)
    reference = BernoulliNegativeSampler(world, K, filtered=True, seed=SEED)
    positives = torch.stack([heads, relations, tails], dim=1)
    for _ in range(2):  # the second batch is drawn at the positions behind the first
        neg_heads, neg_tails = sampler.corrupt_batch(heads, tails, relations)
        assert neg_heads.shape == neg_tails.shape == (K * 100,)
        wanted, mask = reference.sample(positives)
        assert mask is not None
        assert mask.all()
        for j in range(K):
            # As TorchKGE's own: negative j of positive i is at j * b + i.
            part = slice(j * 100, (j + 1) * 100)
            assert torch.equal(neg_heads[part], wanted[:, j, 0])
            assert torch.equal(neg_tails[part], wanted[:, j, 2])


def test_any_number_of_negatives_at_a_call(client: Client, kg: KnowledgeGraph):
    heads, tails, relations = (column[:40] for column in columns_of(kg))
    sampler = RemoteNegativeSampler(kg, n_neg=2, graph=client.triples_factory("world"))
    for n_neg in (1, 7, None):
        neg_heads, neg_tails = sampler.corrupt_batch(heads, tails, relations, n_neg=n_neg)
        times = 2 if n_neg is None else n_neg
        is_head = neg_heads != heads.repeat(times)
        is_tail = neg_tails != tails.repeat(times)
        assert len(neg_heads) == times * 40
        assert (is_head ^ is_tail).all()


@pytest.mark.parametrize("which", ["main", "val"])
def test_a_whole_graph_is_corrupted(
    client: Client, world: TriplesFactory, kg: KnowledgeGraph, which: str
):
    kg_val = knowledge_graph(world, "validation")
    graph = client.triples_factory("world")
    sampler = RemoteNegativeSampler(kg, kg_val=kg_val, graph=graph)
    neg_heads, neg_tails = sampler.corrupt_kg(batch_size=500, use_cuda=False, which=which)
    of = kg if which == "main" else kg_val
    negatives = torch.stack([neg_heads, of.relations, neg_tails], dim=1)
    assert len(negatives) == of.n_facts
    assert not world.contains(negatives.numpy(), ["training"]).any()
    assert ((neg_heads != of.head_idx) ^ (neg_tails != of.tail_idx)).all()


def test_its_own_loader_and_model_train(client: Client, world: TriplesFactory, kg: KnowledgeGraph):
    torch.manual_seed(0)
    graph = client.triples_factory("world")
    loader = TrainDataLoader(kg, batch_size=512, sampling_type="bern")
    loader.sampler = RemoteNegativeSampler(kg, graph=graph, seed=SEED)
    model = TransEModel(32, kg.n_ent, kg.n_rel, dissimilarity_type="L2")
    criterion, optimizer = MarginLoss(0.5), Adam(model.parameters(), lr=0.01)
    losses, seen = [], []
    for _ in range(3):
        total = 0.0
        for batch in loader:
            positive, negative = model(batch["h"], batch["t"], batch["r"], batch["nh"], batch["nt"])
            loss = criterion(positive, negative)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
            seen.append(torch.stack([batch["nh"], batch["r"], batch["nt"]], dim=1))
        model.normalize_parameters()
        losses.append(total)
    assert losses[0] > losses[1] > losses[2]
    assert not world.contains(torch.cat(seen).numpy(), ["training"]).any()


def test_another_graph_is_refused(client: Client, kg: KnowledgeGraph):
    graph = client.triples_factory("world")
    rows = kg.get_df()
    other_ids = {label: kg.n_ent - 1 - i for label, i in kg.ent2ix.items()}
    with pytest.raises(InvalidRequestError, match=r"ent2ix=graph\.entity_to_id"):
        RemoteNegativeSampler(KnowledgeGraph(df=rows, ent2ix=other_ids), graph=graph)
    with pytest.raises(InvalidRequestError, match="entities"):
        RemoteNegativeSampler(KnowledgeGraph(df=rows[:100]), graph=graph)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter_mode": "mask"}, "filter_mode='mask'"),
        ({"distinct": True}, "distinct=True"),
        ({"filtered": False, "chunk_size": 8}, "chunk_size=8"),
        ({"sampler": "basic", "corruption_scheme": ("relation", "tail")}, "replaced heads"),
        ({"sampler": "hardest"}, "not a negative sampler"),
    ],
)
def test_options_with_a_mask_are_refused(
    world: TriplesFactory, kg: KnowledgeGraph, options: dict[str, object], message: str
):
    with pytest.raises(InvalidRequestError, match=message):
        RemoteNegativeSampler(kg, graph=world, **options)


def test_relations_are_needed(world: TriplesFactory, kg: KnowledgeGraph):
    with pytest.raises(InvalidRequestError, match="relations=None"):
        RemoteNegativeSampler(kg, graph=world).corrupt_batch(kg.head_idx, kg.tail_idx)
