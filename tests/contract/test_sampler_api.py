"""The API of the samplers: shapes, names, filter, refusals, pickling."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from negserve import InvalidRequestError
from negserve.data import TripleStream
from negserve.sampling import (
    NEGATIVE_SAMPLERS,
    BasicNegativeSampler,
    BernoulliNegativeSampler,
    DegreeNegativeSampler,
    MixtureNegativeSampler,
    PseudoTypedNegativeSampler,
    TypedNegativeSampler,
    expand,
    get_negative_sampler_cls,
)
from tests.contract.cases import CASES, SAMPLERS
from tests.contract.conftest import ALL_SPLITS, Place, on_graphs
from tests.support.oracle import known


@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3), (2, 1, 3), (0,), (2, 0)])
@pytest.mark.parametrize("filtered", [False, True])
def test_every_batch_shape_is_kept(world: Place, shape: tuple[int, ...], filtered: bool):
    count = torch.Size(shape).numel()
    positives = world.positives(count).reshape(*shape, 3)
    negatives, mask = BasicNegativeSampler(world.factory, 5, filtered).sample(positives)
    assert negatives.shape == (*shape, 5, 3)
    if filtered:
        assert mask is not None
        assert mask.shape == (*shape, 5)
    flat, _ = BasicNegativeSampler(world.factory, 5, filtered).sample(positives.reshape(-1, 3))
    assert torch.equal(negatives.reshape(-1, 5, 3), flat)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int64])
def test_every_integer_dtype_is_taken(world: Place, dtype: torch.dtype):
    positives = world.positives(50)
    expected, _ = BasicNegativeSampler(world.factory, 5).sample(positives)
    negatives, _ = BasicNegativeSampler(world.factory, 5).sample(positives.to(dtype))
    assert torch.equal(negatives, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunk_size": 7},
        {"corruption_scheme": ("head", "relation", "tail")},
    ],
)
def test_no_step_of_the_expansion_leaves_the_device(world: Place, options: dict[str, Any]):
    positives = world.positives(50)
    batch = BasicNegativeSampler(world.factory, 300, **options).sample_compact(positives)
    # torch refuses to compute on this device with anything that is on another one.
    negatives = expand(batch, positives.to("meta"))
    assert negatives.is_meta
    assert negatives.shape == (50, 300, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("chunk_size", [1, 7])
def test_negatives_are_on_the_device_of_the_positives(remote_world: Place, chunk_size: int):
    positives = remote_world.positives(50)
    options: Any = {"chunk_size": chunk_size, "filter_mode": "mask"}
    sampler = BasicNegativeSampler(remote_world.factory, 5, True, **options)
    expected, expected_mask = sampler.sample(positives, position=3)
    negatives, mask = sampler.sample(positives.cuda(), position=3)
    assert negatives.is_cuda
    assert mask is not None
    assert mask.is_cuda
    assert torch.equal(negatives.cpu(), expected)
    assert expected_mask is not None
    assert torch.equal(mask.cpu(), expected_mask)


@pytest.mark.covers("Contains")
@on_graphs(splits=[("training",), ALL_SPLITS])
def test_filter_negative_triples_keeps_exactly_what_is_not_known(
    place: Place, splits: tuple[str, ...]
):
    negatives, _ = PseudoTypedNegativeSampler(place.factory, 8).sample(place.positives(2000))
    sampler = PseudoTypedNegativeSampler(place.factory, 8, True, filter_splits=splits)
    kept, mask = sampler.filter_negative_triples(negatives)
    assert mask.shape == negatives.shape[:-1]
    expected = torch.from_numpy(~known(place.graph, negatives.numpy(), splits))
    assert not expected.all()
    assert torch.equal(mask, expected)
    assert torch.equal(kept, negatives[expected])


def test_filter_negative_triples_takes_an_empty_batch(world: Place):
    kept, mask = BasicNegativeSampler(world.factory).filter_negative_triples(
        torch.empty(0, 3, dtype=torch.int64)
    )
    assert kept.shape == (0, 3)
    assert mask.shape == (0,)


@pytest.mark.parametrize("name", SAMPLERS)
def test_documented_members_of_every_sampler(world: Place, name: str):
    sampler = SAMPLERS[name].open(world.graph, world.factory, None)
    assert sampler.num_entities == world.graph.num_entities
    assert sampler.num_relations == world.graph.num_relations
    assert sampler.num_negs_per_pos == 1
    assert sampler.filtered is False
    assert sampler.filter_mode == "exact"
    assert sampler.candidates is None
    assert sampler.distinct is sampler.log_q is False
    assert sampler.chunk_size == 1
    assert sampler.triples_factory is world.factory
    assert sampler.get_normalized_name() == sampler.kind == name
    expected = {"num_negs_per_pos", "alpha"} if name == "degree" else {"num_negs_per_pos"}
    assert set(sampler.hpo_default) == expected
    assert get_negative_sampler_cls(name) is type(sampler)
    negatives, mask = sampler.sample(world.positives(4))
    assert negatives.shape == (4, 1, 3)
    assert mask is None
    sampler.close()
    assert sampler.sample(world.positives(4))[0].shape == (4, 1, 3)


@pytest.mark.parametrize("name", CASES)
def test_every_batch_shape_is_kept_by_every_case(world: Place, name: str):
    case = CASES[name]
    sampler = case.open(world.graph, world.factory, 6)
    positives = world.positives(24)
    flat, flat_mask = sampler.sample(positives, position=3)
    negatives, mask = sampler.sample(positives.reshape(2, 1, 12, 3), position=3)
    assert negatives.shape == (2, 1, 12, 6, 3)
    assert torch.equal(negatives.reshape(24, 6, 3), flat)
    assert (mask is None) == (flat_mask is None)
    if mask is not None and flat_mask is not None:
        assert torch.equal(mask.reshape(24, 6), flat_mask)


@pytest.mark.parametrize("name", CASES)
def test_a_sampler_is_pickled_with_its_options(remote_world: Place, name: str):
    sampler = CASES[name].open(remote_world.graph, remote_world.factory, 6)
    positives = remote_world.positives(10)
    sampler.sample(positives)
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.position == sampler.position, "copies within a process count together"
    drawn, _ = copy.sample(positives)
    assert torch.equal(drawn, sampler.sample(positives, position=10)[0])
    assert sampler.position == 20


def test_samplers_are_found_by_name_and_class():
    assert get_negative_sampler_cls() is BasicNegativeSampler
    assert get_negative_sampler_cls("Bernoulli") is BernoulliNegativeSampler
    assert get_negative_sampler_cls("pseudo-typed") is PseudoTypedNegativeSampler
    assert get_negative_sampler_cls("Typed_Negative_Sampler") is TypedNegativeSampler
    assert get_negative_sampler_cls("DEGREE") is DegreeNegativeSampler
    assert get_negative_sampler_cls("mixture") is MixtureNegativeSampler
    assert get_negative_sampler_cls("BasicNegativeSampler") is BasicNegativeSampler
    assert get_negative_sampler_cls(BernoulliNegativeSampler) is BernoulliNegativeSampler
    with pytest.raises(ValueError, match=", ".join(NEGATIVE_SAMPLERS)):
        get_negative_sampler_cls("word2vec")
    with pytest.raises(InvalidRequestError):
        get_negative_sampler_cls(int)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (torch.tensor([[0, 0, 10**6]]), "tail id 1000000 of row 0"),
        (torch.tensor([[0, 0, 0], [-1, 0, 0]]), "of row 1 is out of range"),
        (torch.tensor([[0, 10**6, 0]]), "relation id 1000000 of row 0"),
        (torch.tensor([[2**40, 0, 0]]), f"head id {2**40} of row 0"),
        (torch.zeros(4, 2, dtype=torch.int64), r"shape \(4, 2\)"),
        (torch.zeros(4, 3), "float32"),
    ],
)
def test_bad_positives_are_refused_and_the_sampler_goes_on(
    world: Place, bad: torch.Tensor, told: str
):
    sampler = BasicNegativeSampler(world.factory, 5)
    expected, _ = sampler.sample(world.positives(9), position=3)
    with pytest.raises(ValueError, match=told):
        sampler.sample(bad, position=0)
    again, _ = sampler.sample(world.positives(9), position=3)
    assert torch.equal(again, expected)
    if bad.ndim == 2 and bad.shape[1] == 3 and not bad.is_floating_point():
        with pytest.raises(ValueError, match="of row"):
            sampler.filter_negative_triples(bad)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_negs_per_pos": 0}, "num_negs_per_pos"),
        ({"num_negs_per_pos": 2**20 + 1}, "num_negs_per_pos"),
        ({"num_negs_per_pos": -1}, "-1"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"corruption_scheme": ("head", "head")}, "corruption_scheme"),
        ({"corruption_scheme": ("nose",)}, "nose"),
        ({"filtered": True, "filter_splits": ("train",)}, "train"),
        ({"filtered": False, "filter_splits": ("training", "validation")}, "give filtered=True"),
        ({"filter_splits": ("training",)}, "give filtered=True"),
        ({"filtered": True, "filter_splits": ()}, "name splits"),
    ],
)
def test_bad_options_are_refused_at_construction(
    world: Place, options: dict[str, object], told: str
):
    with pytest.raises(ValueError, match=told):
        BasicNegativeSampler(world.factory, **options)  # type: ignore[arg-type]


class Foreign:
    """A graph of another library."""

    mapped_triples = torch.zeros((1, 3), dtype=torch.int64)
    num_entities = num_relations = 1


class Awaited(Foreign):
    """Wraps a value as the asyncio client returns it."""

    async def open_sampler(self) -> None: ...


@pytest.mark.parametrize("factory", [Foreign(), Awaited(), "world", None])
def test_graphs_of_other_libraries_are_refused_by_type(factory: Any):
    with pytest.raises(InvalidRequestError, match=rf"{type(factory).__name__}; give a graph of"):
        BasicNegativeSampler(factory)
    if not isinstance(factory, str):
        with pytest.raises(InvalidRequestError, match=rf"{type(factory).__name__}; give an addr"):
            TripleStream(factory, "world")


def test_bernoulli_has_no_relation_slot(world: Place):
    with pytest.raises(ValueError, match="replaces only head and tail"):
        BernoulliNegativeSampler(world.factory, corruption_scheme=("head", "relation"))


def test_positions_beyond_64_bits_are_refused(world: Place):
    sampler = BasicNegativeSampler(world.factory, 2)
    last, _ = sampler.sample(world.positives(2), position=2**64 - 2)
    assert last.shape == (2, 2, 3)
    for position in (2**64 - 1, -1):
        with pytest.raises(ValueError, match=r"positions? "):
            sampler.sample(world.positives(2), position=position)


def test_the_place_of_a_remote_sampler_is_kept_and_restored(remote_place: Place):
    positives = remote_place.positives(10)
    sampler = BasicNegativeSampler(remote_place.factory, 4, True, seed=9)
    sampler.sample(positives)
    state = pickle.loads(pickle.dumps(sampler.state_dict()))
    wanted, _ = sampler.sample(positives)
    other = BasicNegativeSampler(remote_place.factory, 4, True, seed=9)
    other.load_state_dict(state)
    assert other.position == 10
    assert torch.equal(other.sample(positives)[0], wanted)
