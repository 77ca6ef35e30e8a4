"""Replicas, processors, memory and network of a training, from given costs."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.measuring import RESULTS
from negserve.types.kinds import PART_KINDS
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.sizing.costs import CALLS, CallCosts, Costs, DrawCosts, MemoryCosts
from negserve_server.sizing.fleet import BUSY, Machine, Training, size_fleet
from negserve_server.sizing.graph_size import GraphSize

GRAPH = GraphSize(num_triples=1_000_000, num_entities=100_000, num_relations=200)
#: A batch of 100 x 10 takes 1 ms + 100 x 10 us + 1,000 x 1 us = 3 ms, of which 0.5 on the loop.
DRAWS = DrawCosts({"basic": 2e-5}, {"basic": 1e-5}, {"basic": 1e-6})
#: Of a large graph each draw takes three times as long.
SLOW = DrawCosts({"basic": 6e-5}, {"basic": 3e-5}, {"basic": 3e-6})
CALL = CallCosts(1e-3, DRAWS, SLOW, 5e-4, 2e-3)
#: GRAPH, of 32 MB, is not larger than the small graph.
COSTS = Costs("here", 1e8, 1e10, dict.fromkeys(CALLS, CALL), MemoryCosts(10**8, 10**7, 1_000))
MEASURED = json.loads((RESULTS / "sizing.json").read_text())["rows"]
RUNS = [row for row in MEASURED if row["case"] == "trial"]
TRAINING = Training(10, 100, 10, steps_per_second=10, kind="basic")


def test_processors_are_those_of_all_batches():
    fleet = size_fleet(GRAPH, TRAINING, Machine(), COSTS)
    assert fleet.seconds_per_batch == pytest.approx(3e-3)
    assert fleet.processors == pytest.approx(100 * 3e-3)
    assert (fleet.needed, fleet.spare, fleet.replicas, fleet.workers) == (1, 1, 2, 1)


def test_one_negative_per_positive_has_a_cost_of_its_own():
    fleet = size_fleet(GRAPH, replace(TRAINING, num_negs_per_pos=1), Machine(), COSTS)
    assert fleet.seconds_per_batch == pytest.approx(1e-3 + 100 * 2e-5)


@pytest.mark.parametrize(
    ("num_bytes", "seconds"),
    [(10**6, 3e-3), (10**8, 3e-3), (10**9, 5e-3), (10**10, 7e-3), (10**12, 7e-3)],
)
def test_a_larger_graph_costs_more_by_the_logarithm_of_its_memory(num_bytes: int, seconds: float):
    graph = replace(GRAPH, num_bytes=num_bytes)
    fleet = size_fleet(graph, TRAINING, Machine(), COSTS)
    assert fleet.seconds_per_batch == pytest.approx(seconds)


def test_memory_has_the_tables_of_the_kind():
    def resident(kind: str, k: int) -> float:
        call = replace(CALL, small=DrawCosts(*[dict.fromkeys(PART_KINDS, 1e-6)] * 3))
        costs = replace(COSTS, calls={"epoch": replace(call, large=call.small)})
        training = replace(TRAINING, kind=kind, num_negs_per_pos=k)
        return size_fleet(GRAPH, training, Machine(), costs).resident_bytes

    of_triples = GRAPH.num_triples * GRAPH.num_directions
    assert resident("pseudotyped", 10) - resident("basic", 10) >= 10 * of_triples
    assert resident("degree", 10) > resident("pseudotyped", 10)
    assert resident("basic", 1) > resident("basic", 2)


def test_the_scarcest_decides_how_many_replicas_bear_the_load():
    many = replace(TRAINING, ranks=1000)  # 30 processors, 5 event loops
    fleet = size_fleet(GRAPH, many, Machine(processors=4), COSTS, spare=0)
    assert (fleet.bound, fleet.needed) == ("processors", 11)  # 30 / (0.7 x 4) = 10.7
    slow_loop = replace(COSTS, calls={"epoch": replace(CALL, loop=3e-3)})
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
    assert 0 < costs.small_bytes < costs.large_bytes
    for call in CALLS:
        for draws in (costs.calls[call].small, costs.calls[call].large):
            assert set(PART_KINDS) == set(draws.per_negative) == set(draws.per_positive)
            assert set(PART_KINDS) == set(draws.per_pair)
        for kind in PART_KINDS:
            small, large = (costs.of_batch(call, kind, size, 64, 1e7) for size in (64, 4096))
            assert 0 < small < large


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['graph']}-{run['call']}")
def test_runs_that_nothing_was_fitted_to_need_what_is_computed(run: dict[str, Any]):
    graph = GraphSize(run["triples"], run["entities"], run["relations"])
    training = Training(**{field.name: run[field.name] for field in fields(Training)})
    fleet = size_fleet(graph, training, Machine(), Costs.measured())
    assert fleet.processors == pytest.approx(run["processors"], rel=0.25)
    assert fleet.resident_bytes == pytest.approx(run["resident_bytes"], rel=0.25)


def test_one_run_is_of_a_graph_that_nothing_was_fitted_to():
    fitted = {row["graph"] for row in MEASURED if row["case"] == "fitted"}
    assert len(RUNS) >= 2
    assert {run["graph"] for run in RUNS} - fitted
