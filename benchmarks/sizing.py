"""The costs from which ``negserve-server size`` computes, and two runs that try its answers.

Run as ``python -m benchmarks.sizing [--write] [--json FILE]``. Costs are processor time of a server
on loopback per batch, positive and negative, fitted to some sizes on FB15k-237 by least squares of
the relative errors, and memory. The two runs use other sizes, one of them another graph and kind,
and trainers of a fixed pace; neither is fitted to. ``--write`` makes the costs those of
``negserve-server size``.
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.table import Table
from scipy.optimize import nnls

import negserve_server.sizing
from benchmarks.children import busy_seconds, family
from benchmarks.fairness import sample_requests
from benchmarks.graphs import fb15k_237, zipf_1m
from benchmarks.measuring import Row, console, hardware, write
from benchmarks.remote import SERVE, written
from negserve import Client, EpochConfig, SamplerConfig
from negserve._protocol import messages
from negserve.types.kinds import Kind
from negserve.v1 import sampler_pb2 as pb
from negserve_server.graph import TriplesFactory
from negserve_server.sizing.costs import CALLS, Call, CallCosts, Costs, MemoryCosts
from negserve_server.sizing.fleet import Machine, Training, size_fleet
from negserve_server.sizing.graph_size import GraphSize

_COSTS = Path(negserve_server.sizing.__file__).with_name("costs.json")
#: Batch sizes and k to which costs are fitted, of `bernoulli` and of other kinds.
_FITTED = ((64, 1), (1024, 1), (4096, 1), (256, 16), (64, 64), (1024, 64), (4096, 64), (1024, 256))
_OF_KINDS = ((1024, 1), (1024, 8), (4096, 8), (1024, 64))
_KINDS: tuple[Kind, ...] = ("basic", "pseudotyped", "degree")
#: Trainers do not take batch after batch at once; a step of each is so long, in seconds, or longer
#: if the server would be busy.
_RANKS, _STEP = 8, 0.02
_MOST_NEGATIVES = 2e7
#: Of which the rate of one event loop follows.
_SMALL = (16, 1)
_ROUNDS, _SECONDS = 3, 2.0
_OPENED, _IDLE = 500, 500
_SERVICE = "/negserve.v1.SamplerService/"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Served:
    """A running server."""

    target: str
    pid: int

    def busy(self) -> float:
        """Return its processor time, in seconds."""
        return busy_seconds(family(self.pid))

    def resident_bytes(self) -> int:
        """Return its memory, pages that several processes share counted once."""
        total = 0
        for pid in family(self.pid):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total * 1024


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    """Run a server until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "negserve_server.cli", *SERVE, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Served(process.stdout.readline().split()[-1], process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _epoch_batches(channel: grpc.Channel, config: SamplerConfig, size: int) -> Iterator[int]:
    """Stream epochs without decoding their ids; each step is a message, of so many batches."""
    epoch = EpochConfig(batch_size=size)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    stream: Any = channel.unary_stream(_SERVICE + "SampleEpoch")
    while True:
        answers = stream(request)
        next(answers)
        for answer in answers:
            yield len(pb.SampleEpochResponse.FromString(answer).batches.batches)


def _sample_batches(channel: grpc.Channel, config: SamplerConfig, size: int) -> Iterator[int]:
    """Send one batch after another; each step is its answer, which is not decoded."""
    first, request = sample_requests(config, size)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stream: Any = channel.stream_stream(_SERVICE + "Sample")
    answers = stream(iter(requests.get, None))
    requests.put(first)
    next(answers)
    while True:
        requests.put(request)
        next(answers)
        yield 1


_BATCHES: dict[Call, Callable[[grpc.Channel, SamplerConfig, int], Iterator[int]]] = {
    "epoch": _epoch_batches,
    "sample": _sample_batches,
}


@contextmanager
def _ranks(
    server: Served, call: Call, config: SamplerConfig, batch_size: int, step: float
) -> Iterator[Callable[[], int]]:
    """Let trainers take a batch a step; yields what counts batches.

    :param step: its duration, in seconds; 0 for one after the other
    """
    counts, is_over = [0] * _RANKS, threading.Event()

    def train(rank: int) -> None:
        own = replace(config, seed=rank)
        with grpc.insecure_channel(server.target, options=_OPTIONS) as channel:
            due = time.perf_counter() + step * rank / _RANKS
            for batches in _BATCHES[call](channel, own, batch_size):
                counts[rank] += batches
                due = max(due + batches * step, time.perf_counter() - step)
                if is_over.wait(max(0.0, due - time.perf_counter())):
                    return

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(_RANKS)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _measured(server: Served, count: Callable[[], int]) -> tuple[float, float]:
    """Return processor seconds of a batch, and batches per second."""
    costs, rates = [], []
    while count() < 10 * _RANKS:
        time.sleep(0.01)
    for _ in range(_ROUNDS):
        busy, begin, before = server.busy(), time.perf_counter(), count()
        time.sleep(_SECONDS)
        batches = count() - before
        rates.append(batches / (time.perf_counter() - begin))
        costs.append((server.busy() - busy) / batches)
    return statistics.median(costs), max(rates)


def _seconds(server: Served, call: Call, kind: Kind, batch_size: int, k: int) -> float:
    """Measure the processor time of a batch of trainers with a pace."""
    config = SamplerConfig(kind=kind, num_negs_per_pos=k, filter_splits=("training",))
    step = max(_STEP, _RANKS * batch_size * k / _MOST_NEGATIVES)
    with _ranks(server, call, config, batch_size, step) as count:
        return _measured(server, count)[0]


def fit(seconds: Mapping[tuple[int, int], float], per_batch: float | None = None) -> list[float]:
    """Fit costs of a batch, a positive and a negative, none below 0, to those of batches.

    :param per_batch: what is known of the first
    """
    sizes = np.array([(1, batch, batch * k) for batch, k in seconds], np.float64)
    measured = np.array(list(seconds.values()))
    weighted, wanted = sizes / measured[:, None], np.ones(len(measured))
    if per_batch is None:
        return list(map(float, nnls(weighted, wanted)[0]))
    rest = nnls(weighted[:, 1:], wanted - per_batch * weighted[:, 0])[0]
    return [per_batch, *map(float, rest)]


def measure_calls(graph: Path) -> tuple[dict[Call, CallCosts], list[Row]]:
    """Measure the processor time of both calls."""
    calls: dict[Call, CallCosts] = {}
    rows: list[Row] = []
    with serving("--dataset", f"graph={graph}") as server:
        for call in CALLS:
            costs: dict[str, list[float]] = {}
            for kind in ("bernoulli", *_KINDS):
                sizes = _FITTED if kind == "bernoulli" else _OF_KINDS
                seconds = {size: _seconds(server, call, kind, *size) for size in sizes}
                known = costs["bernoulli"][0] if costs else None
                costs[kind] = fit(seconds, known)
                for (batch, k), measured in seconds.items():
                    computed = np.dot(costs[kind], (1, batch, batch * k))
                    rows.append(
                        {"case": "fitted", "call": call, "kind": kind, "batch": batch, "k": k,
                         "ms": 1e3 * measured, "computed_ms": 1e3 * float(computed)}
                    )  # fmt: skip
            costs["typed"] = costs["pseudotyped"]
            small = SamplerConfig(
                kind="bernoulli", num_negs_per_pos=_SMALL[1], filter_splits=("training",)
            )
            with _ranks(server, call, small, _SMALL[0], 0) as count:
                _, rate = _measured(server, count)
            calls[call] = CallCosts(
                per_batch=costs["bernoulli"][0],
                per_positive={kind: cost[1] for kind, cost in costs.items()},
                per_negative={kind: cost[2] for kind, cost in costs.items()},
                loop=1 / rate,
                per_stream=_stream_seconds(server),
            )
    return calls, rows


def _stream_seconds(server: Served) -> float:
    """Measure the processor time of opening and ending a stream with one small message."""
    config = SamplerConfig(kind="bernoulli", filter_splits=("training",))
    epoch = EpochConfig(batch_size=8, world_size=2**16, rank=1)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    with grpc.insecure_channel(server.target, options=_OPTIONS) as channel:
        stream: Any = channel.unary_stream(_SERVICE + "SampleEpoch")
        for _ in range(50):
            list(stream(request))
        before = server.busy()
        for _ in range(_OPENED):
            list(stream(request))
        return (server.busy() - before) / _OPENED


def measure_memory() -> MemoryCosts:
    """Measure a server of the embedded graph, further workers, and open streams."""
    with (
        serving("--dataset", "world") as one,
        serving("--dataset", "world", "--workers", "3") as few,
    ):
        of_one, of_few = one.resident_bytes(), few.resident_bytes()
        with ExitStack() as stack:
            client = stack.enter_context(Client(one.target))
            factory = client.triples_factory("world")
            samplers = [factory.open_sampler(num_negs_per_pos=1) for _ in range(_IDLE)]
            for sampler in samplers:
                sampler.sample([[0, 0, 1]], 0)
            with_streams = one.resident_bytes()
            for sampler in samplers:
                sampler.close()
    return MemoryCosts(of_one, (of_few - of_one) // 2, max(0, with_streams - of_one) // _IDLE)


def trial(name: str, graph: Path, factory: TriplesFactory, training: Training, costs: Costs) -> Row:
    """Let trainers run at their pace, and compare what the server needs with what is computed."""
    size = GraphSize(factory.num_triples, factory.num_entities, factory.num_relations)
    sampler = SamplerConfig(
        kind=training.kind,  # type: ignore[arg-type]
        num_negs_per_pos=training.num_negs_per_pos,
        filter_splits=("training",),
    )
    is_over = threading.Event()
    counts = [0] * training.ranks

    def train(rank: int, target: str) -> None:
        epoch = EpochConfig(batch_size=training.batch_size, rank=rank, world_size=training.ranks)
        with Client(target) as client:
            stream = client.triples_factory("graph").epochs(sampler, epoch)
            due = time.perf_counter()
            while not is_over.is_set():
                for _ in stream:
                    counts[rank] += 1
                    due = max(due + 1 / training.steps_per_second, time.perf_counter() - 0.1)
                    if is_over.wait(max(0, due - time.perf_counter())):
                        return

    with serving("--dataset", f"graph={graph}") as server:
        threads = [
            threading.Thread(target=train, args=(rank, server.target))
            for rank in range(training.ranks)
        ]
        for thread in threads:
            thread.start()
        time.sleep(3)
        busy, begin, before = server.busy(), time.perf_counter(), sum(counts)
        time.sleep(8)
        elapsed = time.perf_counter() - begin
        processors, batches = (server.busy() - busy) / elapsed, (sum(counts) - before) / elapsed
        resident = server.resident_bytes()
        is_over.set()
        for thread in threads:
            thread.join()
    # Of the pace that was reached: sleeping is not exact.
    reached = replace(training, steps_per_second=batches / training.ranks)
    fleet = size_fleet(size, reached, Machine(), costs)
    return {
        "case": "not fitted", "graph": name, **asdict(reached),
        "processors": processors, "computed_processors": fleet.processors,
        "resident_bytes": resident, "computed_bytes": fleet.resident_bytes,
    }  # fmt: skip


def trials(costs: Costs, graphs: Sequence[tuple[str, Path, TriplesFactory]]) -> list[Row]:
    """Try two trainings that no cost was fitted to."""
    small, large = graphs
    return [
        trial(*small, Training(12, 512, 32, 40, "bernoulli"), costs),
        trial(*large, Training(6, 2048, 10, 40, "pseudotyped"), costs),
    ]


def main(json_path: Path | None, *, is_writing: bool) -> None:
    """Measure and report."""
    with ExitStack() as stack:
        places = [
            (name, stack.enter_context(written(graph)), graph)
            for name, graph in (fb15k_237(), zipf_1m())
        ]
        calls, rows = measure_calls(places[0][1])
        costs = Costs(hardware(), calls, measure_memory())
        content = asdict(costs)
        print(json.dumps(content, indent=1))
        tried = trials(costs, places)
    for title, found in (("fitted", rows), ("not fitted", tried)):
        table = Table(*found[0], title=title)
        for row in found:
            table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
        console.print(table)
    if is_writing:
        _COSTS.write_text(json.dumps(content, indent=1) + "\n")
    write("sizing", [*rows, *tried], json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the costs")
    parser.add_argument("--json", type=Path, help="file for the rows")
    arguments = parser.parse_args()
    main(arguments.json, is_writing=arguments.write)
