"""Epochs: however they are divided into batches and ranks, each position comes exactly once.

What an epoch holds is written down here by position, with the order of the slow reference and
one call of the sampler for all positions; all ranks' batches are laid beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.epoch import MAX_BATCH_SIZE, MAX_WORLD_SIZE, TAILS, EpochBatch, EpochConfig
from negserve_server.errors import IdOutOfRange, PositionOutOfRange
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from tests.server.sampling.reference import Order
from tests.support.graphs import load
from tests.support.programs.examples import examples

TRAINING = ("training",)
#: Samplers that any graph with two entities can make, with every field that a batch may have.
SAMPLERS: dict[str, dict[str, Any]] = {
    "basic": {"kind": "basic"},
    "bernoulli, exact": {"kind": "bernoulli", "filter_splits": TRAINING},
    "pseudotyped, exact": {"kind": "pseudotyped", "filter_splits": TRAINING},
    "degree, log q": {"kind": "degree", "log_q": True},
    "distinct": {"distinct": True},
    "mask": {"filter_splits": TRAINING, "filter_mode": "mask"},
    "chunks of 3": {"chunk_size": 3},
    "chunks of 8, mask": {"chunk_size": 8, "filter_splits": TRAINING, "filter_mode": "mask"},
}
patient = settings(
    max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def sampler_config(name: str, *, seed: int = 0, k: int = 3) -> SamplerConfig:
    return SamplerConfig(**SAMPLERS[name], num_negs_per_pos=k, seed=seed)


# --- All that an epoch says, by position ---


@dataclass
class Served:
    """Served values, one row a positive; None for fields that the sampler or the epoch lacks.

    :ivar places: positions within the epoch
    """

    places: NDArray[Any]
    positives: NDArray[Any]
    replaced: NDArray[Any]
    head_counts: NDArray[Any]
    relation_counts: NDArray[Any]
    mask: NDArray[Any] | None
    log_q: NDArray[Any] | None
    weights: NDArray[Any] | None

    def of(self, rows: Any) -> Served:
        """Select some rows."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return Served(**{name: None if a is None else a[rows] for name, a in arrays.items()})


def served(
    first: int, positives: NDArray[np.int64], negatives: CorruptedBatch, weights: Any
) -> Served:
    """Return the values of a batch, a row a positive; the epoch begins at position ``first``."""
    n = len(positives)
    chunk, position = negatives.chunk_size, negatives.position
    rows = [(position + i) // chunk - position // chunk for i in range(n)]
    assert len(negatives.replaced) == len(set(rows))
    return Served(
        places=np.arange(position - first, position - first + n),
        positives=positives,
        replaced=negatives.replaced[rows],
        head_counts=negatives.head_counts,
        relation_counts=negatives.relation_counts,
        mask=negatives.mask,
        log_q=negatives.log_q,
        weights=weights,
    )


def union(parts: Sequence[Served]) -> Served:
    """All rows, by position; rows of one position stay in the order of their batches."""
    joined = {}
    for field in fields(Served):
        arrays = [getattr(part, field.name) for part in parts]
        assert len({array is None for array in arrays}) == 1
        joined[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    result = Served(**joined)
    return result.of(np.argsort(result.places, kind="stable"))


def assert_same(made: Served, expected: Served) -> None:
    """Compare every field, bit by bit."""
    for field in fields(Served):
        one, other = getattr(made, field.name), getattr(expected, field.name)
        assert (one is None) == (other is None), field.name
        assert one is None or one.dtype == other.dtype, field.name
        assert one is None or one.shape == other.shape, field.name
        assert one is None or np.array_equal(one, other), field.name


def first_of(epoch: Epoch) -> int:
    """Position of the epoch's first positive in the seed's stream."""
    return epoch.number * epoch.num_positives


def ranks_of(factory: TriplesFactory, sampler: SamplerConfig, **options: Any) -> list[Epoch]:
    """The epoch of each rank."""
    world_size = options.get("world_size", 1)
    return [make(factory, sampler, **{**options, "rank": rank}) for rank in range(world_size)]


def make(
    factory: TriplesFactory,
    sampler: SamplerConfig,
    *,
    epoch: int = 0,
    start: int = 0,
    **options: Any,
) -> Epoch:
    """One rank's epoch."""
    return factory.epoch(sampler, EpochConfig(**options), number=epoch, start=start)


def global_batch(ranks: Sequence[Epoch], index: int) -> tuple[list[Served], int]:
    """One batch of all ranks, and where the next begins, on which the ranks agree."""
    batches = [rank.batch(index) for rank in ranks]
    (next_start,) = {batch.next_start for batch in batches}
    return [
        served(first_of(ranks[0]), batch.positives, batch.negatives, batch.weights)
        for batch in batches
    ], next_start


def all_of(ranks: Sequence[Epoch]) -> Served:
    """All batches of all ranks."""
    (count,) = {len(rank) for rank in ranks}
    return union([part for index in range(count) for part in global_batch(ranks, index)[0]])


def expected(
    factory: TriplesFactory,
    sampler: SamplerConfig,
    *,
    epoch: int = 0,
    shuffle: bool = True,
    relations: Iterable[int] | None = None,
    weights: bool = False,
) -> Served:
    """The whole epoch, from its definition."""
    triples = [
        triple
        for triple in factory.mapped_triples.tolist()
        if relations is None or triple[1] in set(relations)
    ]
    n = len(triples)
    order = Order(n, sampler.seed, epoch)
    positives = np.array([triples[order.at(p) if shuffle else p] for p in range(n)])
    return served(
        epoch * n,
        positives,
        factory.sampler(sampler).sample(positives, epoch * n),
        brute_weights(factory, positives) if weights else None,
    )


def brute_weights(factory: TriplesFactory, triples: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 / sqrt(#(h, r, *) + #(*, r, t)), by counting; 0 if there are none."""
    by_head = Counter((h, r) for h, r, _ in factory.mapped_triples.tolist())
    by_tail = Counter((r, t) for _, r, t in factory.mapped_triples.tolist())
    counts = [by_head[h, r] + by_tail[r, t] for h, r, t in triples.tolist()]
    return np.array([1 / math.sqrt(count) if count else 0 for count in counts], dtype=np.float32)


# --- Any small graph, any cut ---


@st.composite
def graphs(draw: st.DrawFn) -> TriplesFactory:
    """Graphs of up to 40 triples."""
    num_entities, num_relations = draw(st.integers(2, 8)), draw(st.integers(1, 3))
    entities, relations = st.integers(0, num_entities - 1), st.integers(0, num_relations - 1)
    triples = draw(st.lists(st.tuples(entities, relations, entities), min_size=1, max_size=40))
    return TriplesFactory(
        {"training": triples}, num_entities=num_entities, num_relations=num_relations
    )


@st.composite
def contents(draw: st.DrawFn, factory: TriplesFactory) -> dict[str, Any]:
    """Options that decide an epoch's content."""
    seen = sorted(set(factory.mapped_triples[:, 1].tolist()))
    some = st.sets(st.sampled_from(seen), min_size=1).map(tuple)
    return {
        # The largest epoch whose positions are below 2^64, whatever wraps around.
        "epoch": draw(st.one_of(st.integers(0, 3), st.just((2**64 - 2000) // 40))),
        "shuffle": draw(st.booleans()),
        "relations": draw(st.one_of(st.none(), some)),
        "weights": draw(st.booleans()),
    }


cuts = st.fixed_dictionaries(
    {
        "batch_size": st.one_of(st.integers(1, 6), st.integers(1, 50)),
        "world_size": st.one_of(st.integers(1, 5), st.integers(1, 30)),
    }
)
samplers = st.builds(
    sampler_config, st.sampled_from(sorted(SAMPLERS)), seed=st.integers(0, 2**64 - 1)
)


@patient
@given(data=st.data(), factory=graphs(), sampler=samplers, cut=cuts)
def test_ranks_have_together_what_is_left_of_the_epoch_once(
    data: st.DataObject, factory: TriplesFactory, sampler: SamplerConfig, cut: dict[str, int]
) -> None:
    content = data.draw(contents(factory))
    whole = expected(factory, sampler, **content)
    n = len(whole.places)
    start = data.draw(st.integers(0, n))
    ranks = ranks_of(factory, sampler, **content, **cut, start=start)
    step = cut["batch_size"] * cut["world_size"]
    assert [len(rank) for rank in ranks] == [math.ceil((n - start) / step)] * len(ranks)
    assert {rank.num_positives for rank in ranks} == {n}
    if start == n:
        return
    assert_same(all_of(ranks), whole.of(slice(start, None)))

    position = start
    for index in range(len(ranks[0])):
        parts, next_start = global_batch(ranks, index)
        sizes = [len(part.places) for part in parts]
        left = n - position
        assert sum(sizes) == min(left, step)
        if left >= step:
            assert set(sizes) == {cut["batch_size"]}
        else:
            event("has a tail")
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= cut["batch_size"]
        # Ranks have consecutive slices, and each batch says what part of the stream it is.
        places = [place for part in parts for place in part.places.tolist()]
        assert places == list(range(position, position + sum(sizes)))
        position += sum(sizes)
        assert next_start == position
    assert position == n


@patient
@given(data=st.data(), factory=graphs(), sampler=samplers)
def test_a_training_goes_on_anywhere_with_any_ranks(
    data: st.DataObject, factory: TriplesFactory, sampler: SamplerConfig
) -> None:
    content = data.draw(contents(factory))
    whole = expected(factory, sampler, **content)
    parts, start, num_restarts = [], 0, -1
    while start < len(whole.places):
        ranks = ranks_of(factory, sampler, **content, **data.draw(cuts), start=start)
        num_batches = data.draw(st.integers(1, len(ranks[0])))
        for index in range(num_batches):
            more, start = global_batch(ranks, index)
            parts += more
        num_restarts += 1
    event(f"restarts: {min(num_restarts, 3)}")
    assert_same(union(parts), whole)
    assert len(ranks_of(factory, sampler, **content, start=start)[0]) == 0


@patient
@given(data=st.data(), factory=graphs(), sampler=samplers, cut=cuts)
def test_drop_leaves_out_less_than_a_global_batch(
    data: st.DataObject, factory: TriplesFactory, sampler: SamplerConfig, cut: dict[str, int]
) -> None:
    content = data.draw(contents(factory))
    whole = expected(factory, sampler, **content)
    n, step = len(whole.places), cut["batch_size"] * cut["world_size"]
    start = data.draw(st.integers(0, n))
    ranks = ranks_of(factory, sampler, **content, **cut, start=start, tail="drop")
    end = start + len(ranks[0]) * step
    assert 0 <= n - end < step
    for index in range(len(ranks[0])):
        parts, next_start = global_batch(ranks, index)
        assert {len(part.places) for part in parts} == {cut["batch_size"]}
        assert next_start == start + (index + 1) * step
    if len(ranks[0]):
        assert_same(all_of(ranks), whole.of(slice(start, end)))


@patient
@given(data=st.data(), factory=graphs(), sampler=samplers, cut=cuts)
def test_wrap_fills_each_batch_from_the_beginning(
    data: st.DataObject, factory: TriplesFactory, sampler: SamplerConfig, cut: dict[str, int]
) -> None:
    content = data.draw(contents(factory))
    whole = expected(factory, sampler, **content)
    n, step = len(whole.places), cut["batch_size"] * cut["world_size"]
    start = data.draw(st.integers(0, n - 1))
    ranks = ranks_of(factory, sampler, **content, **cut, start=start, tail="wrap")
    made = all_of(ranks)
    for index in range(len(ranks[0])):
        parts, next_start = global_batch(ranks, index)
        assert {len(part.places) for part in parts} == {cut["batch_size"]}
        assert next_start == min(start + (index + 1) * step, n)
    assert_same(made.of(made.places < n), whole.of(slice(start, None)))
    # What comes again: less than a global batch, the epoch's beginning, at new positions.
    again = made.of(made.places >= n)
    event(f"wraps: {min(len(again.places), 2)}, more than once: {len(again.places) > n}")
    assert again.places.tolist() == list(range(n, start + len(ranks[0]) * step))
    assert len(again.places) < step
    source = whole.of(again.places % n)
    assert np.array_equal(again.positives, source.positives)
    assert (again.weights is None) == (source.weights is None)
    assert again.weights is None or np.array_equal(again.weights, source.weights)
    if len(again.places):
        position = first_of(ranks[0]) + n
        fresh = factory.sampler(sampler).sample(again.positives, position)
        assert_same(again, served(position - n, again.positives, fresh, again.weights))


# --- Whole graphs ---

CUTS = ((4096, 1), (1000, 8), (100, 12), (333, 3))


@cache
def whole_of(graph: str, sampler: str) -> Served:
    return expected(
        load(graph), sampler_config(sampler, seed=7), epoch=3, relations=None, weights=True
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_world_is_the_same_for_every_cut(sampler: str) -> None:
    for batch_size, world_size in (*CUTS, (7, 5)):
        ranks = ranks_of(
            load("world"),
            sampler_config(sampler, seed=7),
            epoch=3,
            weights=True,
            batch_size=batch_size,
            world_size=world_size,
        )
        assert_same(all_of(ranks), whole_of("world", sampler))


@pytest.mark.parametrize("sampler", ["bernoulli, exact", "chunks of 8, mask"])
def test_codex_s_is_the_same_for_every_cut(sampler: str) -> None:
    for batch_size, world_size in CUTS:
        ranks = ranks_of(
            load("codex-s"),
            sampler_config(sampler, seed=7),
            epoch=3,
            weights=True,
            batch_size=batch_size,
            world_size=world_size,
        )
        assert_same(all_of(ranks), whole_of("codex-s", sampler))


@pytest.mark.parametrize(("graph", "batch_size"), [("world", 32), ("codex-s", 500)])
@pytest.mark.parametrize("sampler", ["bernoulli, exact", "chunks of 8, mask"])
def test_a_training_goes_on_with_12_ranks_instead_of_8(
    graph: str, batch_size: int, sampler: str
) -> None:
    options = {"epoch": 3, "weights": True, "batch_size": batch_size}
    config = sampler_config(sampler, seed=7)
    parts, start = [], 0
    before = ranks_of(load(graph), config, **options, world_size=8)
    for index in range(3):
        more, start = global_batch(before, index)
        parts += more
    assert start == 3 * 8 * batch_size
    after = ranks_of(load(graph), config, **options, world_size=12, start=start)
    for index in range(len(after[0])):
        parts += global_batch(after, index)[0]
    assert_same(union(parts), whole_of(graph, sampler))


def test_batches_are_the_same_in_any_order_and_again() -> None:
    epoch = load("world").epoch(
        sampler_config("basic", seed=1), EpochConfig(batch_size=50, world_size=2, rank=1)
    )

    def rows(batch: EpochBatch) -> list[Any]:
        return [batch.positives.tolist(), batch.negatives.replaced.tolist()]

    forwards = [rows(epoch.batch(index)) for index in range(len(epoch))]
    backwards = [rows(epoch.batch(index)) for index in reversed(range(len(epoch)))]
    assert forwards == backwards[::-1]


def test_chunks_lie_across_ranks_batches_and_epochs() -> None:
    factory = load("world")
    n = factory.num_triples
    config = sampler_config("chunks of 3", seed=2)
    rows: dict[int, set[tuple[int, ...]]] = {}
    for number in (0, 1):
        made = all_of(ranks_of(factory, config, epoch=number, batch_size=5, world_size=3))
        for place, row in zip(made.places.tolist(), made.replaced.tolist(), strict=True):
            rows.setdefault((number * n + place) // 3, set()).add(tuple(row))
    assert n % 3
    assert len(rows) == math.ceil(2 * n / 3)
    assert {len(shared) for shared in rows.values()} == {1}


# --- Order, relations ---


def positives_of(factory: TriplesFactory, *, seed: int = 0, **options: Any) -> list[list[int]]:
    """All positives of an epoch, in order."""
    options.setdefault("batch_size", 4096)
    return all_of(
        ranks_of(factory, sampler_config("basic", seed=seed), **options)
    ).positives.tolist()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    factory = load("world")
    made = [
        positives_of(factory, seed=seed, epoch=number)
        for seed, number in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2**32))
    ]
    for i, one in enumerate(made):
        assert sorted(one) == factory.mapped_triples.tolist()
        for other in made[:i]:
            # Two shuffles agree at one position in the mean.
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 10


def test_the_order_does_not_depend_on_the_sampler() -> None:
    factory = load("world")
    made = [
        all_of(ranks_of(factory, sampler_config(name, seed=5, k=k), epoch=2))
        for name, k in (("basic", 1), ("chunks of 3", 2), ("bernoulli, exact", 5))
    ]
    assert np.array_equal(made[0].positives, made[1].positives)
    assert np.array_equal(made[0].positives, made[2].positives)


def test_without_shuffling_triples_come_as_they_are_with_other_negatives_each_epoch() -> None:
    factory = load("world")
    zero, one = (
        all_of(ranks_of(factory, sampler_config("basic"), epoch=number, shuffle=False))
        for number in (0, 1)
    )
    assert np.array_equal(zero.positives, factory.mapped_triples)
    assert np.array_equal(one.positives, factory.mapped_triples)
    assert (zero.replaced != one.replaced).mean() > 0.9


def test_some_relations_only() -> None:
    factory = load("world")
    triples = factory.mapped_triples.tolist()
    for relations in ((3,), (0, 5, 2), tuple(range(factory.num_relations))):
        expected_ones = [triple for triple in triples if triple[1] in relations]
        assert sorted(positives_of(factory, relations=relations)) == expected_ones
        assert positives_of(factory, relations=relations, shuffle=False) == expected_ones
    # However they are named.
    assert tuple(EpochConfig(relations=(5, 2, 0, 5)).relations or ()) == (0, 2, 5)
    everything = tuple(range(factory.num_relations))
    assert positives_of(factory, relations=everything) == positives_of(factory)


def test_a_tail_of_fewer_positions_than_ranks_leaves_some_without() -> None:
    factory = TriplesFactory({"training": [(0, 0, 1), (1, 0, 2), (2, 0, 0)]})
    ranks = ranks_of(factory, sampler_config("mask"), world_size=5, weights=True)
    batches = [rank.batch(0) for rank in ranks]
    assert [len(batch.positives) for batch in batches] == [0, 1, 0, 1, 1]
    empty = batches[0]
    assert empty.next_start == 3
    assert empty.positives.shape == (0, 3)
    assert empty.positives.dtype == np.int64
    assert empty.negatives.replaced.shape == (0, 3)
    assert empty.negatives.mask is not None
    assert empty.negatives.mask.shape == (0, 3)
    assert empty.weights is not None
    assert empty.weights.shape == (0,)
    assert empty.weights.dtype == np.float32


# --- Weights ---


@patient
@given(factory=graphs())
def test_weights_equal_those_counted(factory: TriplesFactory) -> None:
    entities, relations = range(factory.num_entities), range(factory.num_relations)
    # Triples of the graph and others.
    triples = np.array([(h, r, t) for h in entities for r in relations for t in entities])
    made = factory.subsampling_weights(triples)
    assert made.dtype == np.float32
    assert made.tolist() == brute_weights(factory, triples).tolist()


def test_weights_of_a_few_triples() -> None:
    training = [(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 3), (0, 1, 1)]
    factory = TriplesFactory(
        {"training": training, "testing": [(3, 0, 3)]}, num_entities=4, num_relations=2
    )
    asked = [(0, 0, 1), (0, 0, 3), (1, 0, 3), (0, 1, 1), (2, 1, 2), (3, 0, 3)]
    # 3 + 1, 3 + 2, 1 + 2, 1 + 1, neither; triples of other splits do not count.
    counts = np.array([4, 5, 3, 2, np.inf, 2])
    assert factory.subsampling_weights(asked) == pytest.approx(1 / np.sqrt(counts))
    assert factory.subsampling_weights(np.empty((0, 3), dtype=np.int64)).shape == (0,)
    for wrong, slot in (((4, 0, 0), "head"), ((0, 2, 0), "relation"), ((0, 0, -1), "tail")):
        with pytest.raises(IdOutOfRange, match=slot):
            factory.subsampling_weights([(0, 0, 1), wrong])


def test_weights_of_world_and_only_on_demand() -> None:
    factory = load("world")
    triples = factory.mapped_triples
    assert np.array_equal(factory.subsampling_weights(triples), brute_weights(factory, triples))
    assert factory.epoch(sampler_config("basic"), EpochConfig()).batch(0).weights is None


# --- What is refused ---

#: Three triples; relation 1 has none, and there is no relation 3.
FEW = TriplesFactory(
    {"training": [(0, 0, 1), (1, 0, 2), (2, 2, 0)]}, num_entities=3, num_relations=3
)
LAST_EPOCH = 2**64 // 3 - 1


@pytest.mark.parametrize(
    ("options", "field", "value", "limit"),
    [
        ({"epoch": -1}, "epoch", -1, f"0 to {2**64 - 1}"),
        ({"epoch": 2**64}, "epoch", 2**64, f"0 to {2**64 - 1}"),
        ({"batch_size": 0}, "batch_size", 0, f"1 to {MAX_BATCH_SIZE}"),
        (
            {"batch_size": MAX_BATCH_SIZE + 1},
            "batch_size",
            MAX_BATCH_SIZE + 1,
            f"1 to {MAX_BATCH_SIZE}",
        ),
        ({"world_size": 0}, "world_size", 0, f"1 to {MAX_WORLD_SIZE}"),
        (
            {"world_size": MAX_WORLD_SIZE + 1},
            "world_size",
            MAX_WORLD_SIZE + 1,
            f"1 to {MAX_WORLD_SIZE}",
        ),
        ({"rank": 1}, "rank", 1, "world_size=1"),
        ({"rank": 8, "world_size": 8}, "rank", 8, "0 to 7"),
        ({"rank": -1, "world_size": 8}, "rank", -1, "0 to 7"),
        ({"tail": "keep"}, "tail", "keep", ", ".join(TAILS)),
        ({"start": -1}, "start", -1, f"0 to {2**64 - 1}"),
        ({"start": 4}, "start", 4, "3 positions"),
        ({"start": 3, "relations": (0,)}, "start", 3, "2 positions"),
        ({"relations": (0, 3)}, "relations", 3, "0 to 2"),
        ({"relations": (-1, 0)}, "relations", -1, "ids of the graph"),
        ({"relations": ()}, "relations", (), "no training triples"),
        ({"relations": (1,)}, "relations", (1,), "no training triples"),
    ],
)
def test_illegal_epochs_are_refused_by_field(
    options: dict[str, Any], field: str, value: object, limit: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make(FEW, sampler_config("basic"), **options)
    assert caught.value.reason == "INVALID_CONFIGURATION"
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["value"] == str(value)
    assert limit in caught.value.metadata["expected"]
    assert field in str(caught.value)


@pytest.mark.parametrize("tail", ["short", "drop"])
def test_positions_up_to_the_last_of_the_stream_are_served(tail: Any) -> None:
    # 2^64 - 1 is a multiple of 3: the epoch ends just before the last position.
    options = {"epoch": LAST_EPOCH, "batch_size": 2, "tail": tail}
    (epoch,) = ranks_of(FEW, sampler_config("chunks of 3"), **options)
    batches = [epoch.batch(index) for index in range(len(epoch))]
    assert batches[0].negatives.position == 2**64 - 4
    assert sum(len(batch.positives) for batch in batches) == (3 if tail == "short" else 2)


@pytest.mark.parametrize(
    "options",
    [
        {"epoch": LAST_EPOCH + 1},
        {"epoch": LAST_EPOCH + 1, "tail": "drop"},
        {"epoch": 2**64 - 1},
        # Two positions more than the epoch has, of which the stream has one.
        {"epoch": LAST_EPOCH, "tail": "wrap", "batch_size": 5},
        {"epoch": LAST_EPOCH, "tail": "wrap", "batch_size": 2, "start": 1, "world_size": 2},
    ],
)
def test_positions_behind_the_stream_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PositionOutOfRange) as caught:
        make(FEW, sampler_config("basic"), **options)
    assert caught.value.reason == "POSITION_OUT_OF_RANGE"
    assert caught.value.metadata["value"] == str(options["epoch"] * 3)
    assert caught.value.metadata["limit"] == str(2**64 - 1)


def test_wrap_may_go_up_to_the_last_position_of_the_stream() -> None:
    options = {"epoch": LAST_EPOCH, "tail": "wrap", "batch_size": 2, "world_size": 2}
    made = all_of(ranks_of(FEW, sampler_config("basic"), **options))
    assert made.places.tolist() == [0, 1, 2, 3]
    assert made.positives[0].tolist() == made.positives[3].tolist()


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("start", [0, 3])
def test_batches_that_an_epoch_has_not_are_refused(tail: Any, start: int) -> None:
    epoch = make(FEW, sampler_config("basic"), batch_size=2, tail=tail, start=start)
    assert len(epoch) == (0 if start else 1 if tail == "drop" else 2)
    for index in (-1, len(epoch), 2**64):
        with pytest.raises(IndexError, match=f"batch {index} of {len(epoch)}"):
            epoch.batch(index)
