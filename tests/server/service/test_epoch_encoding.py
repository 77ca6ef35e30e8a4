"""Batches that are drawn and encoded together have the bytes of batches made one by one.

One by one means: the order of the slow reference, one call of ``sample``, and one message of the
generated code for each batch.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve.types.config import SamplerConfig
from negserve.types.epoch import TAILS, EpochConfig
from negserve.types.triples import narrowest_dtype
from negserve.v1 import sampler_pb2 as pb
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.epoch_batches import EpochBatches
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.sampling import slices
from negserve_server.service.epoch_messages import encode_epoch_batches
from tests.server.sampling.reference import Order
from tests.support.graphs import load
from tests.support.programs.examples import examples

TRAINING = ("training",)
#: One of each kind, and each option that changes how negatives are drawn or encoded.
SAMPLERS: dict[str, dict[str, Any]] = {
    "basic": {"kind": "basic"},
    "basic, exact": {"kind": "basic", "filter_splits": TRAINING},
    "relations too": {"kind": "basic", "corruption_scheme": ("head", "relation", "tail")},
    "bernoulli, exact": {"kind": "bernoulli", "filter_splits": TRAINING},
    "pseudotyped, exact": {"kind": "pseudotyped", "filter_splits": TRAINING},
    "typed, mask": {"kind": "typed", "filter_splits": TRAINING, "filter_mode": "mask"},
    "degree, log q": {"kind": "degree", "log_q": True, "filter_splits": TRAINING},
    "mixture": {"kind": "mixture", "mixture": (("basic", 1), ("degree", 2))},
    "distinct": {"distinct": True, "filter_splits": TRAINING},
    "chunks of 3": {"chunk_size": 3},
    "chunks of 8, log q": {"chunk_size": 8, "kind": "degree", "log_q": True},
    "distinct chunks": {"chunk_size": 4, "distinct": True},
    "chunks of 5, mask": {"chunk_size": 5, "filter_splits": TRAINING, "filter_mode": "mask"},
}


def made_together(epoch: Epoch, indices: range) -> tuple[EpochBatches, int]:
    """Return the batches, and in how many steps they were drawn."""
    steps: Generator[None, None, EpochBatches] = epoch.batches_in_steps(indices)
    for number in range(1, 10_000):
        try:
            next(steps)
        except StopIteration as end:
            return end.value, number
    raise AssertionError("no end of steps")


def ids_of(values: NDArray[Any], num_ids: int) -> pb.Ids:
    dtype = narrowest_dtype(num_ids)
    return pb.Ids(data=values.astype(dtype).tobytes(), width=dtype.itemsize)


class OneByOne:
    """The batches of an epoch by its definition, ``docs/sampling.md``, *Order of an epoch*."""

    def __init__(
        self, factory: TriplesFactory, sampler: SamplerConfig, config: EpochConfig, number: int
    ) -> None:
        self._factory, self._config = factory, config
        self._sampler = factory.sampler(sampler)
        triples = factory.mapped_triples
        if config.relations is not None:
            triples = triples[np.isin(triples[:, 1], np.asarray(config.relations))]
        self.size, self._number = len(triples), number
        order = Order(self.size, sampler.seed, number)
        rows = [order.at(p) if config.shuffle else p for p in range(self.size)]
        self._triples = triples[rows]

    def batch(self, index: int, start: int) -> pb.EpochBatch:
        """Encode a batch of the worker."""
        config = self._config
        b, world, rank = config.batch_size, config.world_size, config.rank
        begin = start + (config.worker + index * config.num_workers) * b * world
        left = self.size - begin
        first, end = begin + rank * b, begin + (rank + 1) * b
        if config.tail == "short" and left < b * world:
            first, end = begin + left * rank // world, begin + left * (rank + 1) // world
        positives = self._triples[np.arange(first, end) % self.size]
        position = self._number * self.size + first
        drawn = self._sampler.sample(positives, position)
        entities, relations = self._factory.num_entities, self._factory.num_relations
        k = self._sampler.config.num_negs_per_pos
        message = pb.EpochBatch(
            next_start=min(begin + b * world, self.size),
            positives=pb.Triples(
                heads=ids_of(positives[:, 0], entities),
                relations=ids_of(positives[:, 1], relations),
                tails=ids_of(positives[:, 2], entities),
            ),
            negatives=pb.CorruptedBatch(
                position=position,
                num_positives=len(positives),
                replaced=pb.Ids(data=drawn.replaced.tobytes(), width=drawn.replaced.itemsize),
                num_saturated=drawn.num_saturated,
            ),
        )
        if drawn.head_counts.any():
            message.negatives.head_counts.CopyFrom(ids_of(drawn.head_counts, k + 1))
        if drawn.relation_counts.any():
            message.negatives.relation_counts.CopyFrom(ids_of(drawn.relation_counts, k + 1))
        if drawn.mask is not None and not drawn.mask.all():
            message.negatives.mask = np.packbits(drawn.mask, bitorder="little").tobytes()
        if drawn.log_q is not None:
            message.negatives.log_q = drawn.log_q.tobytes()
        if config.weights:
            message.weights = self._factory.subsampling_weights(positives).tobytes()
        return message


def assert_same(
    factory: TriplesFactory,
    sampler: SamplerConfig,
    config: EpochConfig,
    number: int,
    start: int,
    ends: list[int],
) -> int:
    """Compare messages whose batches end before ``ends``; return the most steps of one."""
    epoch = factory.epoch(sampler, config, number=number, start=start)
    one_by_one = OneByOne(factory, sampler, config, number)
    most = 0
    for first, end in zip([0, *ends], [*ends, len(epoch)], strict=True):
        if first == end:
            continue
        batches, steps = made_together(epoch, range(first, end))
        assert len(batches) == end - first
        most = max(most, steps)
        made = encode_epoch_batches(batches)
        expected = [one_by_one.batch(index, start) for index in range(first, end)]
        assert list(made.batches.batches) == expected
        assert (
            made.SerializeToString()
            == pb.SampleEpochResponse(batches=pb.EpochBatches(batches=expected)).SerializeToString()
        )
        # In process, batches of their own are the same ones.
        for index in (first, end - 1):
            alone, _ = made_together(epoch, range(index, index + 1))
            assert list(encode_epoch_batches(alone).batches.batches) == [expected[index - first]]
    return most


@st.composite
def graphs(draw: st.DrawFn) -> TriplesFactory:
    """Graphs of up to 40 triples, some with ids of more than one byte."""
    num_entities = draw(st.sampled_from([2, 3, 8, 300, 70_000]))
    num_relations = draw(st.sampled_from([2, 3, 300]))
    entities = st.integers(0, min(num_entities, 9) - 1).map(
        lambda entity: num_entities - 1 - entity
    )
    relations = st.integers(0, min(num_relations, 4) - 1)
    triples = draw(st.lists(st.tuples(entities, relations, entities), min_size=1, max_size=40))
    return TriplesFactory(
        {"training": triples},
        num_entities=num_entities,
        num_relations=num_relations,
        type_constraints=TypeConstraints(
            heads=[(0, num_entities - 1)], tails=[(0, 0), (0, num_entities - 1)]
        ),
    )


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), factory=graphs(), name=st.sampled_from(sorted(SAMPLERS)))
def test_batches_drawn_together_are_those_drawn_one_by_one(
    data: st.DataObject, factory: TriplesFactory, name: str
) -> None:
    draw = data.draw
    most_distinct = factory.num_entities if "distinct" in name else 300
    sampler = SamplerConfig(
        **SAMPLERS[name],
        num_negs_per_pos=min(draw(st.sampled_from([1, 2, 3, 7, 300])), most_distinct),
        seed=draw(st.integers(0, 2**64 - 1)),
    )
    world_size, num_workers = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    seen = sorted(set(factory.mapped_triples[:, 1].tolist()))
    config = EpochConfig(
        batch_size=draw(st.one_of(st.integers(1, 6), st.integers(1, 50))),
        rank=draw(st.integers(0, world_size - 1)),
        world_size=world_size,
        worker=draw(st.integers(0, num_workers - 1)),
        num_workers=num_workers,
        tail=draw(st.sampled_from(TAILS)),
        shuffle=draw(st.booleans()),
        relations=draw(st.none() | st.sets(st.sampled_from(seen), min_size=1).map(tuple)),
        weights=draw(st.booleans()),
    )
    number = draw(st.sampled_from([0, 1, 3, (2**64 - 2000) // 40]))
    size = OneByOne(factory, sampler, config, number).size
    start = draw(st.integers(0, size))
    num_batches = len(factory.epoch(sampler, config, number=number, start=start))
    ends = sorted(draw(st.lists(st.integers(0, num_batches), max_size=2)))
    with patch.object(slices, "SLICE_WORK", draw(st.sampled_from([20, 200, 2**20]))):
        steps = assert_same(factory, sampler, config, number, start, ends)
    event(f"steps: {min(steps, 2)}")


@cache
def world() -> TriplesFactory:
    return load("world")


@pytest.mark.parametrize("name", [name for name in SAMPLERS if "typed" not in name])
@pytest.mark.parametrize(
    "config",
    [
        EpochConfig(batch_size=1500, weights=True),
        EpochConfig(batch_size=100, rank=1, world_size=3, tail="wrap"),
        EpochConfig(batch_size=6001, worker=1, num_workers=2, tail="wrap", world_size=2),
        EpochConfig(batch_size=700, shuffle=False, relations=(0, 1, 2, 3, 4, 5)),
    ],
    ids=["in a row", "ranks", "more than the epoch", "some relations"],
)
def test_messages_of_a_whole_graph(name: str, config: EpochConfig) -> None:
    sampler = SamplerConfig(**SAMPLERS[name], num_negs_per_pos=5, seed=7)
    epoch = world().epoch(sampler, config, number=2)
    assert_same(world(), sampler, config, 2, 0, [len(epoch) // 2])
