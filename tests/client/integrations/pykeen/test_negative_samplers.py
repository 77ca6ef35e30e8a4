"""The remote samplers behave as PyKEEN expects, and add the server's options."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pykeen.datasets import Nations
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.sampling.filtering import BloomFilterer, Filterer, PythonSetFilterer
from pykeen.triples import TriplesFactory

from negserve import (
    Client,
    FingerprintMismatchError,
    InvalidRequestError,
    SamplerConfig,
    UnknownDatasetError,
    sampling,
)
from negserve.integrations.pykeen import (
    RemoteBasicNegativeSampler,
    RemoteBernoulliNegativeSampler,
    RemoteDegreeNegativeSampler,
    RemoteFilterer,
    RemoteNegativeSampler,
    RemotePseudoTypedNegativeSampler,
)
from negserve.integrations.pykeen.drawn_positions import DrawnPositions
from negserve_server import graph
from tests.support.server_process import ServerProcess

CLASSES: dict[str, type[NegativeSampler]] = {
    "remote": RemoteNegativeSampler,
    "remotebasic": RemoteBasicNegativeSampler,
    "remotebernoulli": RemoteBernoulliNegativeSampler,
    "remotedegree": RemoteDegreeNegativeSampler,
    "remotepseudotyped": RemotePseudoTypedNegativeSampler,
}
NUM_NEGS = 10
ANY = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)

Make = Callable[..., Any]


class Odd(Filterer):
    """A user's own filterer: triples with an odd head are known."""

    def __init__(self, mapped_triples: torch.Tensor) -> None:
        super().__init__()

    def contains(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[..., 0] % 2 == 1


@pytest.fixture
def make(nations: Nations, publisher: ServerProcess) -> Make:
    """Make a sampler of Nations as PyKEEN's training loop does."""

    def made(cls: type[NegativeSampler] | str, /, **kwargs: Any) -> Any:
        factory = kwargs.pop("factory", nations.training)
        given = {"target": publisher.target, "num_negs_per_pos": NUM_NEGS, **kwargs}
        return negative_sampler_resolver.make(
            cls,
            pos_kwargs=given,
            mapped_triples=factory._add_inverse_triples_if_necessary(factory.mapped_triples),
            num_entities=factory.num_entities,
            num_relations=factory.num_relations,
        )

    return made


def known_of(triples: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(triple) for triple in triples.tolist()}


@pytest.mark.parametrize("name", CLASSES)
def test_pykeen_finds_it_by_name(name: str):
    cls = CLASSES[name]
    assert negative_sampler_resolver.lookup(name) is cls
    assert negative_sampler_resolver.lookup(cls.__name__) is cls
    assert cls.get_normalized_name() == name
    assert dict(cls.hpo_default) | NegativeSampler.hpo_default == cls.hpo_default
    assert set(cls.hpo_default) - set(NegativeSampler.hpo_default) == (
        {"alpha"} if name == "remotedegree" else set()
    )


@ANY
def test_it_is_a_direct_subclass_with_pykeens_arguments(cls: type[NegativeSampler]):
    # PyKEEN's HPO looks for arguments in a class and the first of its bases.
    assert cls.__bases__ == (NegativeSampler,)
    ours = inspect.signature(cls).parameters
    for name, theirs in inspect.signature(NegativeSampler).parameters.items():
        assert ours[name].kind is theirs.kind is inspect.Parameter.KEYWORD_ONLY
        assert ours[name].default == theirs.default
    assert {"target", "dataset", "seed", "timeout", "patience"} <= set(ours)


@ANY
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"filtered": True},
        *({"filtered": True, "filterer": it} for it in ("bloom", PythonSetFilterer, "remote", Odd)),
        {"filterer": "python-set"},
        {"filterer": RemoteFilterer},
        {"filterer": BloomFilterer, "filterer_kwargs": {"error_rate": 0.01}},
    ],
    ids=str,
)
def test_shapes_and_mask_are_as_pykeen_expects(
    make: Make, nations: Nations, cls: type[NegativeSampler], filters: dict[str, Any]
):
    sampler = make(cls, **filters)
    generator = torch.Generator().manual_seed(42)
    triples = nations.training.mapped_triples
    positives = triples[torch.randint(len(triples), (16,), generator=generator)]
    before = positives.clone()
    negatives, mask = sampler.sample(positive_batch=positives)
    assert torch.equal(positives, before)
    assert negatives.shape == (16, NUM_NEGS, 3)
    assert negatives.dtype == torch.long
    sizes = torch.tensor([sampler.num_entities, sampler.num_relations, sampler.num_entities])
    assert ((negatives >= 0) & (negatives < sizes)).all()
    assert ((negatives != positives.unsqueeze(1)).sum(dim=-1) == 1).all()
    assert (mask is None) == (sampler.filterer is None) == (not filters)
    if mask is None:
        return
    assert mask.shape == (16, NUM_NEGS)
    assert mask.dtype == torch.bool
    if isinstance(sampler.filterer, RemoteFilterer):
        assert mask.all()
        assert not known_of(negatives.reshape(-1, 3)) & known_of(triples)
    else:
        assert torch.equal(mask, sampler.filterer(negatives))
        assert mask.any()
        assert not mask.all()
    assert sampler.sample(positives[:1])[0].shape == (1, NUM_NEGS, 3)


def test_half_of_the_corruptions_are_heads(make: Make, nations: Nations):
    positives = nations.training.mapped_triples[:16]
    negatives, _ = make("remotebasic").sample(positives)
    assert ((negatives != positives.unsqueeze(1))[..., 0].sum(dim=1) == NUM_NEGS // 2).all()


@ANY
def test_every_shape_of_batches(make: Make, nations: Nations, cls: type[NegativeSampler]):
    sampler = make(cls, filtered=True, seed=1)
    positives = nations.training.mapped_triples[:24]
    flat, _ = sampler.sample(positives, position=0)
    for shape in ((24,), (4, 6), (2, 3, 4)):
        negatives, mask = sampler.sample(positives.reshape(*shape, 3), position=0)
        assert negatives.shape == (*shape, NUM_NEGS, 3)
        assert mask.shape == (*shape, NUM_NEGS)
        assert torch.equal(negatives.reshape(flat.shape), flat)
    assert sampler.sample(positives[0])[0].shape == (NUM_NEGS, 3)
    assert sampler.sample(positives[:0])[0].shape == (0, NUM_NEGS, 3)
    assert sampler.corrupt_batch(positives.reshape(4, 6, 3)).shape == (4, 6, NUM_NEGS, 3)
    with pytest.raises(InvalidRequestError, match=r"\(24, 2\)"):
        sampler.sample(positives[:, :2])


def test_sizes_are_inferred_and_one_negative_is_the_default(
    nations: Nations, publisher: ServerProcess
):
    sampler = RemoteBasicNegativeSampler(
        mapped_triples=nations.training.mapped_triples, target=publisher.target
    )
    assert (sampler.num_entities, sampler.num_relations) == (14, 55)
    assert sampler.num_negs_per_pos == 1
    assert sampler.filterer is None
    assert sampler.sample(nations.training.mapped_triples)[0].shape == (1592, 1, 3)


def test_an_unfiltered_batch_is_drawn_without_filter(make: Make, nations: Nations):
    triples = nations.training.mapped_triples
    filtered = make("remotepseudotyped", filtered=True)
    assert known_of(filtered.corrupt_batch(triples).reshape(-1, 3)) & known_of(triples)
    assert not known_of(filtered.sample(triples)[0][:100].reshape(-1, 3)) & known_of(triples)


@pytest.mark.parametrize("name", ["basic", "bernoulli", "pseudotyped"])
def test_it_draws_what_negserve_draws(
    publisher: ServerProcess, world_file: TriplesFactory, name: str
):
    """The server's dataset is found, and the negatives are those of its samplers."""
    triples = world_file.mapped_triples
    sampler = negative_sampler_resolver.make(
        f"remote{name}",
        {"target": publisher.target, "seed": 5, "filtered": True, "num_negs_per_pos": 3},
        mapped_triples=triples.flip(0),
        num_entities=world_file.num_entities,
        num_relations=world_file.num_relations,
    )
    cls = sampling.get_negative_sampler_cls(name)
    expected = cls(graph.TriplesFactory.world(), 3, True, seed=5)
    for batch in triples[:500].split(200):
        ours, mask = sampler.sample(batch, position=expected.position)
        theirs, valid = expected.sample(batch)
        assert torch.equal(ours, theirs)
        assert torch.equal(mask, valid)
    assert sampler.graph.open().factory.name == "world"


def test_any_configuration(publisher: ServerProcess, world_file: TriplesFactory):
    options = {
        "kind": "mixture", "mixture": {"degree": 1, "typed": 2}, "alpha": 0.5, "seed": 8,
        "candidates": list(range(0, world_file.num_entities, 2)),
    }  # fmt: skip
    sampler = RemoteNegativeSampler(
        mapped_triples=world_file.mapped_triples, target=publisher.target, dataset="world",
        num_negs_per_pos=6, filtered=True, filter_splits=("training", "validation", "testing"),
        filter_mode="mask", **options,
    )  # fmt: skip
    config = SamplerConfig(
        kind="mixture", mixture=(("degree", 1), ("typed", 2)), alpha=0.5, seed=8,
        candidates=tuple(options["candidates"]), num_negs_per_pos=6, filter_mode="mask",
        filter_splits=("training", "validation", "testing"),
    )  # fmt: skip
    positives = world_file.mapped_triples[:300]
    negatives, mask = sampler.sample(positives, position=0)
    with Client(publisher.target) as client:
        batch = client.triples_factory("world").open_sampler(
            **{name: getattr(config, name) for name in config.__slots__}
        ).sample(positives.numpy(), 0)  # fmt: skip
    np.testing.assert_array_equal(negatives.numpy(), batch.triples(positives.numpy()))
    np.testing.assert_array_equal(mask.numpy(), batch.mask)
    assert not mask.all()


def test_distinct_values_come_with_a_mask(make: Make, nations: Nations):
    sampler = make("remote", distinct=True, num_negs_per_pos=40)
    negatives, mask = sampler.sample(nations.training.mapped_triples[:3])
    assert mask.sum(dim=1).tolist() == [26, 26, 26]  # 13 others in each of two slots
    assert all(len(known_of(row[valid])) == 26 for row, valid in zip(negatives, mask, strict=True))


def test_calls_differ_and_seeds_decide(make: Make, nations: Nations):
    positives = nations.training.mapped_triples[:50]

    def draw(torch_seed: int | None, **options: int) -> torch.Tensor:
        if torch_seed is not None:
            torch.manual_seed(torch_seed)
        sampler = make("remotebernoulli", **options)
        return torch.stack([sampler.sample(positives)[0] for _ in range(2)])

    drawn = draw(3)
    assert not torch.equal(*drawn)
    assert torch.equal(draw(3), drawn), "the random seed decides, as for PyKEEN's samplers"
    other_seed = draw(3, seed=7)
    further = draw(None, seed=7)
    assert torch.equal(draw(3, seed=7), other_seed)
    for one, other in ((drawn, draw(4)), (drawn, other_seed), (other_seed, further)):
        assert not torch.equal(one[0], other[0])
        assert not torch.equal(one[1], other[1])


def test_a_new_sampler_leaves_torchs_generator_alone(make: Make):
    # Else a training that was resumed, which makes another sampler, would shuffle otherwise.
    before = torch.get_rng_state()
    make("remotebasic", filtered=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("chunk_size", [1, 1000])
def test_positions_of_ranks_lie_apart(chunk_size: int):
    taken = []
    for rank in range(3):
        torch.manual_seed(5)  # ranks of one training begin alike
        positions = DrawnPositions(chunk_size, rank, 3)
        taken += [(positions.take(100), rank) for _ in range(1000)]
    assert all(0 <= position <= 2**64 - 100 for position, _ in taken)
    assert not any(position % chunk_size for position, _ in taken)
    assert all(after[0] - before[0] >= 100 for before, after in pairwise(sorted(taken)))
    assert max(position for position, _ in taken) > 2**63
    torch.manual_seed(5)
    copied = pickle.loads(pickle.dumps(DrawnPositions(chunk_size, 1, 3)))
    assert (copied.take(100), 1) == taken[1000]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_draw_the_same_at_a_position(make: Make, nations: Nations, copied: Any):
    positives = nations.training.mapped_triples[:50]
    for filters in ({"filtered": True}, {"filterer": "bloom"}):
        sampler = make("remotebernoulli", seed=7, **filters)
        before, mask = sampler.sample(positives, position=3)
        again, valid = copied(sampler).sample(positives, position=3)
        assert torch.equal(before, again)
        assert torch.equal(mask, valid)
        assert not torch.equal(sampler.sample(positives)[0], copied(sampler).sample(positives)[0])


@ANY
def test_a_wrong_keyword_names_the_class(make: Make, cls: type[NegativeSampler]):
    with pytest.raises(TypeError, match=rf"{cls.__name__}.*'num_negatives'"):
        make(cls, num_negatives=3)


def test_an_overridden_corrupt_batch_is_called(make: Make, nations: Nations):
    class Mine(RemoteBasicNegativeSampler):
        def corrupt_batch(self, positive_batch: torch.Tensor) -> torch.Tensor:
            negatives = super().corrupt_batch(positive_batch)
            negatives[..., 0] = positive_batch[..., :1]
            negatives[..., 2] = 3
            return negatives

    positives = nations.training.mapped_triples[:50]
    negatives, mask = make(Mine).sample(positives)
    assert (negatives[..., 2] == 3).all()
    assert mask is None
    negatives, mask = make(Mine, filtered=True).sample(positives)
    assert (negatives[..., 2] == 3).all()
    known = known_of(nations.training.mapped_triples)
    assert mask.tolist() == [[tuple(it) not in known for it in row] for row in negatives.tolist()]
    with pytest.raises(InvalidRequestError, match="overrides corrupt_batch"):
        make(Mine).sample(positives, position=0)


@pytest.mark.parametrize("filters", [{}, {"filtered": True}, {"filterer": "python-set"}], ids=str)
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("scheme", "k", "shares"), [
    (("head", "tail"), 7, {"head": 4, "tail": 3}), (("tail",), 3, {"tail": 3}),
    (("head", "relation", "tail"), 2, {"head": 1, "relation": 1}),
])  # fmt: skip
def test_grouped_negatives_of_pykeens_next_release(
    make: Make, nations: Nations, filters: dict[str, Any], inverse: bool,
    scheme: tuple[str, ...], k: int, shares: dict[str, int],
):  # fmt: skip
    """New values by slot, equally many for each positive, and no known ones with a filter."""
    factory = nations.training
    if inverse:
        factory = factory.clone_and_exchange_triples(
            factory.mapped_triples, create_inverse_triples=True
        )
    sampler = make(
        "remotebasic", factory=factory, num_negs_per_pos=k, corruption_scheme=scheme, **filters
    )
    triples = factory._add_inverse_triples_if_necessary(factory.mapped_triples)
    known = known_of(triples)
    positives = triples[torch.randperm(len(triples))[:60]].reshape(6, 10, 3)
    assert sampler.supports_grouped_corruption
    unfiltered = sampler.corrupt_batch_grouped(positives)
    values, masks = sampler.sample_grouped(positives)
    assert {slot: it.shape for slot, it in unfiltered.items()} == {
        slot: (6, 10, share) for slot, share in shares.items()
    }
    assert (masks is None) == (not filters)
    for slot, replaced in values.items():
        assert not torch.equal(replaced, unfiltered[slot])
        column = ("head", "relation", "tail").index(slot)
        assert (replaced != positives[..., column : column + 1]).all()
        negatives = positives.unsqueeze(2).repeat(1, 1, replaced.shape[-1], 1)
        negatives[..., column] = replaced
        is_known = torch.tensor([tuple(it) in known for it in negatives.reshape(-1, 3).tolist()])
        if masks is not None:
            assert torch.equal(masks[slot].flatten(), ~is_known)
            assert masks[slot].all() or filters == {"filterer": "python-set"}
    assert "supports_grouped_corruption" not in vars(RemoteBernoulliNegativeSampler)


@pytest.mark.parametrize("kind", ["basic", "bernoulli", "pseudotyped"])
def test_inverse_triples(publisher: ServerProcess, world_file: TriplesFactory, kind: str):
    """Inverse triples get the negatives of the graph without them, mapped back."""
    factory = world_file.clone_and_exchange_triples(
        world_file.mapped_triples, create_inverse_triples=True
    )
    triples = factory._add_inverse_triples_if_necessary(factory.mapped_triples)
    sampler = RemoteNegativeSampler(
        mapped_triples=triples, num_entities=factory.num_entities,
        num_relations=factory.num_relations, num_negs_per_pos=40, filtered=True, seed=2, kind=kind,
        target=publisher.target, dataset="world",
    )  # fmt: skip
    assert factory.num_relations == 2 * world_file.num_relations
    generator = torch.Generator().manual_seed(1)
    positives = triples[torch.randint(len(triples), (400,), generator=generator)]
    negatives, mask = sampler.sample(positives)
    known = known_of(triples)
    assert not known_of(negatives[mask]) & known
    assert ((negatives != positives.unsqueeze(1)).sum(dim=-1) == 1).all()
    assert torch.equal(negatives[..., 1], positives[:, 1:2].expand(-1, 40))
    # The same shares of heads, and the same mask, as with the whole of it in process.
    whole = graph.TriplesFactory(
        {"training": triples.numpy()}, num_entities=factory.num_entities,
        num_relations=factory.num_relations,
    )  # fmt: skip
    cls = sampling.get_negative_sampler_cls(kind)
    expected, valid = cls(whole, 40, True, seed=2).sample(positives)
    assert torch.equal(mask, valid)

    def heads(drawn: torch.Tensor) -> torch.Tensor:
        return (drawn != positives.unsqueeze(1))[..., 0].sum(dim=1)

    assert (heads(negatives) - heads(expected)).abs().max() <= 1
    assert torch.equal(sampler.filterer(positives), torch.zeros(400, dtype=torch.bool))
    assert torch.equal(sampler.filterer(negatives), mask)


def test_inverse_relations_as_negatives_need_them_in_the_graph(make: Make, nations: Nations):
    factory = nations.training.clone_and_exchange_triples(
        nations.training.mapped_triples, create_inverse_triples=True
    )
    sampler = make("remotebasic", factory=factory, corruption_scheme=("relation",))
    negatives, _ = sampler.sample(factory.mapped_triples[:50])
    opened = sampler.graph.open()
    assert (opened.inverted, opened.factory.num_relations) == (False, 110)
    assert set((negatives[..., 1] % 2).flatten().tolist()) == {0, 1}
    assert make("remotebasic", factory=factory).graph.open().inverted


def test_another_graph_is_refused(make: Make, nations: Nations, world_file: TriplesFactory):
    sampler = make("remotebasic", dataset="world")
    with pytest.raises(FingerprintMismatchError, match="1592 triples, 14 entities"):
        sampler.sample(nations.training.mapped_triples[:5])
    fewer = world_file.clone_and_exchange_triples(world_file.mapped_triples[1:])
    with pytest.raises(FingerprintMismatchError):
        make("remotebasic", dataset="world", factory=fewer).sample(fewer.mapped_triples[:5])
    more = make("remotebasic", dataset="world", factory=world_file)
    assert more.sample(world_file.mapped_triples[:5])[0].shape == (5, NUM_NEGS, 3)


def test_a_server_that_accepts_no_graphs_says_so(
    server: ServerProcess, make: Make, nations: Nations
):
    sampler = make("remotebasic", target=server.target)
    with pytest.raises(UnknownDatasetError, match="--allow-publish") as caught:
        sampler.sample(nations.training.mapped_triples[:5])
    assert "1592 triples" in str(caught.value)
    with pytest.raises(UnknownDatasetError, match="nowhere"):
        make("remotebasic", target=server.target, dataset="nowhere").sample(
            nations.training.mapped_triples[:5]
        )


def test_the_address_is_that_of_the_environment(
    publisher: ServerProcess, nations: Nations, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TARGET", publisher.target)
    sampler = RemoteBernoulliNegativeSampler(
        mapped_triples=nations.training.mapped_triples, filtered=True
    )
    _, mask = sampler.sample(nations.training.mapped_triples[:5])
    assert mask is not None
    assert publisher.target in repr(sampler)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**64}, "seed="),
        ({"kind": "best"}, "best"),
        ({"timeout": 0}, "timeout=0"),
        ({"target": ()}, "no target"),
    ],
)
def test_wrong_options_are_refused_at_once(make: Make, options: dict[str, Any], said: str):
    with pytest.raises(InvalidRequestError, match=said):
        make("remote", **options)


def test_splits_that_the_graph_lacks_are_refused(
    make: Make, nations: Nations, publisher: ServerProcess
):
    with Client(publisher.target) as client:
        client.publish("nations-without-testing", nations.training)
    splits = ("training", "testing")
    named = {"dataset": "nations-without-testing", "filter_splits": splits}
    sampler = make("remotebasic", filtered=True, **named)
    with pytest.raises(InvalidRequestError, match="testing"):
        sampler.sample(nations.training.mapped_triples[:5])
