"""The costs from which ``negserve-server size`` computes, and runs that try its answers.

Run as ``python -m benchmarks.sizing [--part PART] [--graphs DIR] [--write] [--json FILE]``. Costs
are processor time of a server on loopback per batch, positive and negative, fitted to some sizes on
a small and a large graph by least squares of the relative errors, and memory. The runs use other
sizes, and graphs between these two and beyond; none is fitted to. ``--part`` measures a part again,
with the other ones from the results. ``--write`` makes the costs those of ``negserve-server size``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.optimize import nnls

import negserve_server.sizing
from benchmarks.measured.trainers import (
    RANKS,
    Served,
    administrator,
    loop_rate,
    paced,
    serving,
    stream_seconds,
    touch,
)
from benchmarks.support.graphs import fb15k_237, zipf_1m, zipf_5m, zipf_20m
from benchmarks.support.measuring import RESULTS, Row, console, hardware, write
from negserve import Client, EpochConfig, SamplerConfig
from negserve._admin.admin_client import AdminClient
from negserve.types.kinds import Kind
from negserve.v1.admin_pb2 import DatasetStatus
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.sizing.costs import CALLS, Call, Costs
from negserve_server.sizing.fleet import Machine, Training, size_fleet
from negserve_server.sizing.graph_size import GraphSize

PARTS = ("batches", "loops and memory", "trials")
_COSTS = Path(negserve_server.sizing.__file__).with_name("costs.json")
#: Makes a graph, with its name.
Maker = Callable[[], tuple[str, TriplesFactory]]
#: Graphs to which costs are fitted, the small one first, and others: between these and beyond.
_FITTED_GRAPHS = {"fb15k-237": fb15k_237, "zipf-5m": zipf_5m}
_OTHER_GRAPHS = {"zipf-1m": zipf_1m, "zipf-20m": zipf_20m}
#: Batch sizes and k to which costs are fitted, of `bernoulli` and of other kinds.
_FITTED = ((64, 1), (4096, 1), (256, 8), (2048, 16), (64, 64), (1024, 64), (1024, 256))
_OF_KINDS = ((1024, 1), (2048, 8), (1024, 64))
#: The costs of `typed` are those of `pseudotyped`.
_KINDS: tuple[Kind, ...] = ("bernoulli", "basic", "pseudotyped", "degree")
#: Trainers do not take batch after batch at once: a step of each takes so many seconds, or more for
#: large batches. The server is then busy for a tenth to a third of the time. When it is nearly
#: idle, work costs up to twice as much, for which nobody needs a larger machine.
_STEPS: dict[Call, float] = {"epoch": 0.002, "sample": 0.02}
_MOST_NEGATIVES = 2e7
#: All cases take turns, so that a change of the machine's speed affects all alike.
_ROUNDS, _SECONDS = 2, 0.5
_IDLE = 500
#: Messages that are made before a measurement, those that clients read ahead; and in it, at least.
_FIRST_MESSAGES, _MESSAGES = 6 * RANKS, 4 * RANKS
_PATIENCE = 60.0
#: Triples that trainers send; more than the processor's cache holds the index of.
_MOST_POSITIVES = 2**19
_TRIALS = (
    ("fb15k-237", Training(12, 512, 32, 40, "bernoulli")),
    ("zipf-1m", Training(8, 1500, 20, 20, "bernoulli", "sample")),
    ("zipf-1m", Training(6, 2048, 10, 40, "pseudotyped")),
    ("zipf-20m", Training(10, 1500, 32, 20, "bernoulli")),
)


@dataclass(frozen=True)
class Measured:
    """A graph with its snapshot, and triples of it in random order, of shape (n, 3)."""

    path: Path
    size: GraphSize
    positives: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, make: Maker, folder: Path) -> Measured:
        """Take the snapshot of a graph in a folder, or make it."""
        path = folder / name
        if not is_snapshot(path):
            write_snapshot(make()[1].parts, path, made={})
        factory = TriplesFactory.from_snapshot(path)
        triples = factory.mapped_triples
        chosen = np.random.default_rng(0).permutation(len(triples))[:_MOST_POSITIVES]
        size = GraphSize(len(triples), factory.num_entities, factory.num_relations)
        return cls(path, size, triples[chosen])


def measure_batches(graphs: Mapping[str, Measured]) -> list[Row]:
    """Measure the processor time of batches, of all graphs in turns."""
    found: dict[tuple[str, Call, Kind, int, int], list[float]] = {}
    with administrator() as options, ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                serving(
                    "--dataset", f"graph={graph.path}", "--table-keep-seconds", "3600", *options
                )
            )
            for name, graph in graphs.items()
        }
        cases = [
            (name, call, kind, batch, k)
            for call in CALLS
            for kind in _KINDS
            for batch, k in (_FITTED if kind == "bernoulli" else _OF_KINDS)
            for name in graphs
        ]
        for name, server in servers.items():
            touch(server)
            for kind in _KINDS:  # makes the tables
                _seconds(server, graphs[name], "epoch", kind, 1024, 8)
        for _, case in itertools.product(range(_ROUNDS), cases):
            name, call, kind, batch, k = case
            seconds = _seconds(servers[name], graphs[name], call, kind, batch, k)
            found.setdefault(case, []).append(seconds)
    return [
        {"case": "fitted", "graph": name, "graph_bytes": graphs[name].size.resident_bytes,
         "call": call, "kind": kind, "batch": batch, "k": k, "ms": 1e3 * statistics.median(each)}
        for (name, call, kind, batch, k), each in found.items()
    ]  # fmt: skip


def _seconds(
    server: Served, graph: Measured, call: Call, kind: Kind, batch_size: int, k: int
) -> float:
    """Measure the processor time of a batch of trainers with a pace."""
    config = SamplerConfig(kind=kind, num_negs_per_pos=k, filter_splits=("training",))
    step = max(_STEPS[call], RANKS * batch_size * k / _MOST_NEGATIVES)
    with AdminClient(server.target, None, _PATIENCE) as admin:
        begin = _drawn(admin, 0)
        with paced(server, graph.positives, call, config, batch_size, step):
            # The first messages fill what clients read ahead.
            before, busy = _drawn(admin, begin.num_messages + _FIRST_MESSAGES), server.busy()
            time.sleep(_SECONDS)
            after = _drawn(admin, before.num_messages + _MESSAGES)
            busy = server.busy() - busy
    return busy * batch_size * k / (after.num_negatives - before.num_negatives)


def _drawn(admin: AdminClient, num_messages: int) -> DatasetStatus:
    """Wait until the server has drawn so many messages, which may wait for clients, and count."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        (dataset,) = admin.status().datasets
        if dataset.num_messages >= num_messages:
            return dataset
        assert time.monotonic() < deadline, "no messages are drawn"
        time.sleep(_SECONDS / 4)


def measure_loops(graph: Measured) -> list[Row]:
    """Measure event loops, and the opening of streams."""
    with serving("--dataset", f"graph={graph.path}") as server:
        return [
            {"case": "loop", "call": call, "us": 1e6 / loop_rate(server, call),
             "stream_ms": 1e3 * stream_seconds(server)}
            for call in CALLS
        ]  # fmt: skip


def measure_memory(folder: Path) -> list[Row]:
    """Measure a server that serves the embedded graph, further workers, and open streams."""
    world = Measured.of("world", lambda: ("world", TriplesFactory.world()), folder)
    graph = replace(world, positives=np.repeat(world.positives, 100, axis=0))
    with administrator() as options, serving("--dataset", f"graph={graph.path}", *options) as one:
        for call in CALLS:
            _seconds(one, graph, call, "bernoulli", 64, 64)
        of_one = one.resident_bytes()
        with ExitStack() as stack:
            client = stack.enter_context(Client(one.target))
            factory = client.triples_factory("graph")
            samplers = [factory.open_sampler(num_negs_per_pos=1) for _ in range(_IDLE)]
            for sampler in samplers:
                sampler.sample([[0, 0, 1]], 0)
            with_streams = one.resident_bytes()
            for sampler in samplers:
                sampler.close()
    further = []
    for workers in ("1", "3"):
        with serving("--dataset", f"graph={graph.path}", "--workers", workers) as few:
            further.append(few.resident_bytes())
    return [
        {"case": "memory", "process": of_one, "worker": (further[1] - further[0]) // 2,
         "per_stream": max(0, with_streams - of_one) // _IDLE}
    ]  # fmt: skip


def fit(rows: Sequence[Mapping[str, Any]]) -> tuple[float, list[dict[str, dict[str, float]]]]:
    """Fit the costs of a call to those of batches, none below 0.

    Other kinds than `bernoulli` have its cost of a batch.

    :param rows: of one call
    :return: the cost of a batch, and the costs of drawing from each graph
    """
    names = list(dict.fromkeys(row["graph"] for row in rows))
    draws: list[dict[str, dict[str, float]]] = [
        {"per_pair": {}, "per_positive": {}, "per_negative": {}} for _ in names
    ]
    per_batch: list[float] = []
    for kind in _KINDS:
        of_kind = [row for row in rows if row["kind"] == kind]
        sizes = np.zeros((len(of_kind), 1 + 3 * len(names)))
        for at, row in enumerate(of_kind):
            first = 1 + 3 * names.index(row["graph"])
            batch, k = row["batch"], row["k"]
            sizes[at, 0] = 1
            sizes[at, first : first + 3] = (batch, 0, 0) if k == 1 else (0, batch, batch * k)
        measured = np.array([row["ms"] for row in of_kind]) / 1e3
        weighted = sizes / measured[:, None]
        known = len(per_batch)
        found = nnls(weighted[:, known:], 1 - weighted[:, :known] @ per_batch)[0]
        per_batch = per_batch or [float(found[0])]
        for number, of_graph in enumerate(draws):
            values = found[1 - known + 3 * number :]
            for name, value in zip(of_graph, values, strict=False):
                of_graph[name][kind] = float(value)
    for of_cost in itertools.chain.from_iterable(each.values() for each in draws):
        of_cost["typed"] = of_cost["pseudotyped"]
    return per_batch[0], draws


def costs_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute what ``costs.json`` holds from what was measured."""
    calls: dict[str, Any] = {}
    fitted = [row for row in rows if row["case"] == "fitted"]
    for call in CALLS:
        per_batch, (small, large) = fit([row for row in fitted if row["call"] == call])
        loop = next(row for row in rows if row["case"] == "loop" and row["call"] == call)
        calls[call] = {
            "per_batch": per_batch, "small": small, "large": large,
            "loop": loop["us"] / 1e6, "per_stream": loop["stream_ms"] / 1e3,
        }  # fmt: skip
    memory = next(row for row in rows if row["case"] == "memory")
    of_graphs = sorted({row["graph_bytes"] for row in fitted})
    return {
        "machine": hardware(),
        "small_bytes": of_graphs[0],
        "large_bytes": of_graphs[-1],
        "calls": calls,
        "memory": {name: memory[name] for name in ("process", "worker", "per_stream")},
    }


def compared(row: Row, costs: Costs) -> Row:
    """Add to what was measured what is computed."""
    if row["case"] == "fitted":
        names = ("call", "kind", "batch", "k", "graph_bytes")
        call, kind, batch, k, graph_bytes = (row[name] for name in names)
        seconds = costs.of_batch(call, kind, batch, k, graph_bytes)  # type: ignore[arg-type]
        return {**row, "computed_ms": 1e3 * seconds}
    if row["case"] != "trial":
        return row
    graph = GraphSize(*(row[name] for name in ("triples", "entities", "relations")))  # type: ignore[arg-type]
    training = Training(**{field.name: row[field.name] for field in fields(Training)})  # type: ignore[arg-type]
    fleet = size_fleet(graph, training, Machine(), costs)
    return {
        **row,
        "computed_processors": fleet.processors,
        "computed_bytes": fleet.resident_bytes,
    }


def trial(name: str, graph: Measured, training: Training) -> Row:
    """Let trainers run at their pace, and measure what the server needs."""
    sampler = SamplerConfig(
        kind=training.kind,  # type: ignore[arg-type]
        num_negs_per_pos=training.num_negs_per_pos,
        filter_splits=("training",),
    )
    is_over = threading.Event()

    def batches_of(client: Client, rank: int) -> Iterator[object]:
        remote = client.triples_factory("graph")
        epoch = EpochConfig(batch_size=training.batch_size, rank=rank, world_size=training.ranks)
        if training.call == "epoch":
            stream = remote.epochs(sampler, epoch)
            while True:
                yield from stream
        options = {field.name: getattr(sampler, field.name) for field in fields(sampler)}
        opened = remote.open_sampler(**options)
        size = training.batch_size
        batches = np.split(graph.positives, range(size, len(graph.positives), size))[:-1]
        for number in itertools.count(rank * len(batches) // training.ranks):
            at = number % len(batches)
            yield opened.sample(batches[at], at)

    def train(rank: int, target: str) -> None:
        with Client(target) as client:
            due = time.perf_counter()
            for _ in batches_of(client, rank):
                due = max(due + 1 / training.steps_per_second, time.perf_counter() - 0.1)
                if is_over.wait(max(0, due - time.perf_counter())):
                    return

    with (
        administrator() as options,
        serving("--dataset", f"graph={graph.path}", *options) as server,
        AdminClient(server.target, None, _PATIENCE) as admin,
    ):
        touch(server)
        threads = [
            threading.Thread(target=train, args=(rank, server.target))
            for rank in range(training.ranks)
        ]
        for thread in threads:
            thread.start()
        time.sleep(4)
        before, busy, begin = _drawn(admin, 0), server.busy(), time.perf_counter()
        time.sleep(12)
        after, busy = _drawn(admin, 0), server.busy() - busy
        elapsed = time.perf_counter() - begin
        resident = server.resident_bytes()
        is_over.set()
        for thread in threads:
            thread.join()
    # Of the pace that was reached: sleeping is not exact.
    positives = after.num_positives - before.num_positives
    pace = positives / training.batch_size / training.ranks / elapsed
    reached = replace(training, steps_per_second=pace)
    size = graph.size
    return {
        "case": "trial", "graph": name, "triples": size.num_triples, "entities": size.num_entities,
        "relations": size.num_relations, **asdict(reached), "processors": busy / elapsed,
        "resident_bytes": resident,
    }  # fmt: skip


def measure(part: str, folder: Path) -> list[Row]:
    """Measure a part."""
    if part == "trials":
        makers = _FITTED_GRAPHS | _OTHER_GRAPHS
        return [
            trial(name, Measured.of(name, makers[name], folder), training)
            for name, training in _TRIALS
        ]
    graphs = {name: Measured.of(name, make, folder) for name, make in _FITTED_GRAPHS.items()}
    if part == "batches":
        return measure_batches(graphs)
    return measure_loops(next(iter(graphs.values()))) + measure_memory(folder)


def _part(row: Mapping[str, Any]) -> str:
    """Tell of which part a row is."""
    return {"fitted": "batches", "trial": "trials"}.get(row["case"], "loops and memory")


def main(parts: Sequence[str], folder: Path, json_path: Path | None, *, is_writing: bool) -> None:
    """Measure and report."""
    path = json_path or RESULTS / "sizing.json"
    rows: list[Row] = []
    if set(parts) != set(PARTS):
        kept = json.loads(path.read_text())["rows"]
        rows = [row for row in kept if _part(row) not in parts]
    for part in parts:
        rows += measure(part, folder)
    rows.sort(key=lambda row: PARTS.index(_part(row)))
    content = costs_of(rows)
    rows = [compared(row, Costs.decode(content)) for row in rows]
    for title in dict.fromkeys(str(row["case"]) for row in rows):
        found = [row for row in rows if row["case"] == title]
        table = Table(*found[0], title=title)
        for row in found:
            table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
        console.print(table)
    if is_writing:
        _COSTS.write_text(json.dumps(content, indent=1) + "\n")
    write("sizing", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="measure it alone")
    parser.add_argument("--graphs", type=Path, help="folder that keeps the graphs' snapshots")
    parser.add_argument("--write", action="store_true", help="keep the costs")
    parser.add_argument("--json", type=Path, help="file for the rows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(
            arguments.part or PARTS,
            arguments.graphs or Path(temporary),
            arguments.json,
            is_writing=arguments.write,
        )
