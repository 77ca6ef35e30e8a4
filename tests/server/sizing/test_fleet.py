"""Replicas, processors, memory and network of a training, from given costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from negserve.types.kinds import PART_KINDS
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.sizing.costs import CALLS, CallCosts, Costs, MemoryCosts
from negserve_server.sizing.fleet import BUSY, Machine, Training, size_fleet
from negserve_server.sizing.graph_size import GraphSize

GRAPH = GraphSize(num_triples=1_000_000, num_entities=100_000, num_relations=200)
#: A batch of 100 x 10 takes 1 ms + 100 x 10 us + 1,000 x 1 us = 3 ms, of which 0.5 on the loop.
CALL = CallCosts(1e-3, {"basic": 2e-5}, {"basic": 1e-5}, {"basic": 1e-6}, 5e-4, 2e-3)
COSTS = Costs("here", dict.fromkeys(CALLS, CALL), MemoryCosts(100_000_000, 10_000_000, 1_000))
TRAINING = Training(10, 100, 10, steps_per_second=10, kind="basic")


def test_processors_are_those_of_all_batches():
    fleet = size_fleet(GRAPH, TRAINING, Machine(), COSTS)
    assert fleet.seconds_per_batch == pytest.approx(3e-3)
    assert fleet.processors == pytest.approx(100 * 3e-3)
    assert (fleet.needed, fleet.spare, fleet.replicas, fleet.workers) == (1, 1, 2, 1)


def test_one_negative_per_positive_has_a_cost_of_its_own():
    fleet = size_fleet(GRAPH, replace(TRAINING, num_negs_per_pos=1), Machine(), COSTS)
    assert fleet.seconds_per_batch == pytest.approx(1e-3 + 100 * 2e-5)


def test_the_scarcest_decides_how_many_replicas_bear_the_load():
    many = replace(TRAINING, ranks=1000)  # 30 processors, 5 event loops
    fleet = size_fleet(GRAPH, many, Machine(processors=4), COSTS, spare=0)
    assert (fleet.bound, fleet.needed) == ("processors", 11)  # 30 / (0.7 x 4) = 10.7
    slow_loop = Costs("", {"epoch": replace(CALL, loop=3e-3)}, COSTS.memory)
    fleet = size_fleet(GRAPH, replace(many, batch_size=1), Machine(1), slow_loop, spare=0)
    assert (fleet.bound, fleet.needed) == ("event loop", 43)  # 30 / 0.7
    thin = Machine(processors=64, network_bytes=1e6)
    fleet = size_fleet(GRAPH, many, thin, COSTS, spare=0)
    assert fleet.bound == "network"
    assert fleet.needed * BUSY * 1e6 > fleet.sent_bytes > (fleet.needed - 1) * BUSY * 1e6


def test_workers_are_as_many_as_event_loops_are_busy():
    training = replace(TRAINING, ranks=400, batch_size=1)  # 4,000 batches, 2 loops, 4.1 processors
    fleet = size_fleet(GRAPH, training, Machine(processors=16), COSTS)
    assert (fleet.needed, fleet.workers) == (1, 3)


def test_the_number_of_ranks_that_need_one_more_replica_is_exact():
    fleet = size_fleet(GRAPH, TRAINING, Machine(), COSTS)
    at_most = replace(TRAINING, ranks=fleet.most_ranks)
    assert size_fleet(GRAPH, at_most, Machine(), COSTS).needed == fleet.needed
    more = replace(TRAINING, ranks=fleet.most_ranks + 1)
    assert size_fleet(GRAPH, more, Machine(), COSTS).needed == fleet.needed + 1


@pytest.mark.parametrize(
    ("num_entities", "num_relations", "width"), [(256, 256, 3), (257, 1, 5), (65_537, 257, 10)]
)
def test_ids_have_the_widths_of_messages(num_entities: int, num_relations: int, width: int):
    assert GraphSize(1, num_entities, num_relations).triple_bytes == width


def test_an_epoch_sends_its_positives_too():
    epoch, sample = (
        size_fleet(GRAPH, replace(TRAINING, call=call), Machine(), COSTS).bytes_per_batch
        for call in ("epoch", "sample")
    )
    assert epoch - sample == 100 * GRAPH.triple_bytes


def test_the_estimate_of_a_graph_is_near_its_snapshot(tmp_path: Path):
    factory = TriplesFactory.world()
    write_snapshot(factory.parts, tmp_path / "graph", made={})
    stored = sum(
        path.stat().st_size
        for name in ("training", "index.training")
        for path in (tmp_path / "graph").glob(f"{name}.*.npy")
    )
    size = GraphSize(factory.num_triples, factory.num_entities, factory.num_relations)
    assert 0.5 * stored < size.resident_bytes < 2 * stored
    assert replace(size, num_directions=1).resident_bytes < size.resident_bytes


def test_measured_costs_are_there_for_every_kind():
    costs = Costs.measured()
    assert costs.machine
    assert costs.memory.process > 50_000_000
    for call in CALLS:
        of_call = costs.calls[call]
        assert set(PART_KINDS) == set(of_call.per_negative) == set(of_call.per_positive)
        assert set(PART_KINDS) == set(of_call.per_pair)
        for kind in PART_KINDS:
            small, large = (of_call.of_batch(kind, size, 64) for size in (64, 4096))
            assert 0 < small < large
