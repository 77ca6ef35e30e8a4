"""Trainings of up to 4,096 ranks, simulated with the measured costs: where they stop to scale.

Run as ``python -m benchmarks.fleet [--json FILE]``. Takes the costs of ``negserve-server size`` and
plays each batch: it waits for its worker's event loop, then for a processor of its replica, then
for its network. All ranks step together, as in data-parallel training, so that the last batch of a
step decides. Each rank has some batches ahead. Nothing is measured here, so it runs in seconds.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from benchmarks.support.measuring import Row, console, write
from negserve_server.sizing.costs import Call, Costs
from negserve_server.sizing.fleet import (
    Machine,
    Training,
    bytes_per_batch,
    seconds_per_batch,
    size_fleet,
)
from negserve_server.sizing.graph_size import GraphSize

RANKS = (16, 64, 256, 1024, 4096)
#: Replicas of a fixed fleet, beside the one that `negserve-server size` asks for.
_FIXED = 4
_MACHINE = Machine(processors=4)
#: Batches that a rank has ahead, as trainers' streams do by default.
_AHEAD = 4
_STEPS = 100
#: FB15k-237.
_GRAPH = GraphSize(272_115, 14_505, 237)
_TRAININGS: tuple[tuple[Call, int, int], ...] = (
    ("epoch", 1024, 64),
    ("epoch", 128, 16),
    ("sample", 1024, 64),
    ("sample", 128, 16),
)


class Replica:
    """The queues of a replica: event loops, processors, network.

    :ivar busy: seconds of work that each has done
    """

    def __init__(self, workers: int) -> None:
        self._loops = [0.0] * workers
        self._processors = [0.0] * int(_MACHINE.processors)
        self._network = 0.0
        self.busy = {"event loop": 0.0, "processors": 0.0, "network": 0.0}

    def serve(self, at: float, rank: int, loop: float, work: float, transfer: float) -> float:
        """Serve a batch that is asked for at some time; return when it has arrived.

        :param loop: seconds on the event loop
        :param work: seconds of a processor besides
        :param transfer: seconds of the network
        """
        worker = rank % len(self._loops)
        self._loops[worker] = max(at, self._loops[worker]) + loop
        # The loop takes a processor, too.
        free = max(self._loops[worker], heapq.heappop(self._processors) + loop) + work
        heapq.heappush(self._processors, free)
        self._network = max(free, self._network) + transfer
        for name, seconds in (
            ("event loop", loop / len(self._loops)),
            ("processors", (loop + work) / len(self._processors)),
            ("network", transfer),
        ):
            self.busy[name] += seconds
        return self._network


def simulate(training: Training, replicas: int, workers: int, costs: Costs) -> tuple[float, str]:
    """Play some steps of a training.

    :return: steps per second of those that the trainers could do, at most 1, and what is busiest
    """
    call = costs.calls[training.call]
    whole = seconds_per_batch(_GRAPH, training, costs)
    loop = min(call.loop, whole)
    transfer = bytes_per_batch(_GRAPH, training) / _MACHINE.network_bytes
    fleet = [Replica(workers) for _ in range(replicas)]
    pace = 1 / training.steps_per_second
    #: When each rank asked for the batches that it has ahead: at first for all, and to be streamed.
    asked = [[0.0] * _AHEAD for _ in range(training.ranks)]
    now = begin = 0.0
    for step in range(_STEPS):
        if step == _STEPS // 2:  # what was ahead at the start is used up
            begin = now
        arrived = 0.0
        for rank in range(training.ranks):
            opening = call.per_stream if step == 0 else 0.0
            arrived = max(
                arrived,
                fleet[rank % replicas].serve(
                    asked[rank][step % _AHEAD],
                    rank // replicas,
                    loop + opening,
                    whole - loop,
                    transfer,
                ),
            )
        now = max(now, arrived) + pace
        for own in asked:
            own[step % _AHEAD] = now
    achieved = pace * (_STEPS - _STEPS // 2) / (now - begin)
    busiest = max(fleet[0].busy, key=lambda name: fleet[0].busy[name])
    return min(1.0, achieved), busiest


def main(json_path: Path | None = None) -> None:
    """Simulate and report."""
    costs = Costs.measured()
    rows: list[Row] = []
    for call, batch_size, k in _TRAININGS:
        for ranks in RANKS:
            training = Training(ranks, batch_size, k, steps_per_second=10, call=call)
            fleet = size_fleet(_GRAPH, training, _MACHINE, costs, spare=0)
            workers = int(_MACHINE.processors)
            fixed, busiest = simulate(training, _FIXED, workers, costs)
            sized, _ = simulate(training, fleet.needed, fleet.workers, costs)
            rows.append(
                {"call": call, "batch": batch_size, "k": k, "ranks": ranks, "fixed": fixed,
                 "busiest": busiest, "replicas": fleet.needed, "workers": fleet.workers,
                 "sized": sized, "bound": fleet.bound,
                 "most_ranks_of_one": _most_ranks(replace(training, ranks=1), costs)}
            )  # fmt: skip
    table = Table(*rows[0], title="fleet")
    for row in rows:
        table.add_row(*(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()))
    console.print(table)
    write("fleet", rows, json_path)


def _most_ranks(one: Training, costs: Costs) -> int:
    return size_fleet(_GRAPH, one, _MACHINE, costs, spare=0).most_ranks


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    main(parser.parse_args().json)
