"""The costs from which ``negserve-server size`` computes, and runs that try its answers.

Run as ``python -m benchmarks.sizing [--write] [--json FILE]``. Costs are processor time of a server
on loopback per batch, positive and negative, fitted to some sizes on FB15k-237 by least squares of
the relative errors, and memory. The runs use other sizes, two of them another graph, one another
kind; none is fitted to. ``--write`` makes the costs those of ``negserve-server size``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.table import Table
from scipy.optimize import nnls

import negserve_server.sizing
from benchmarks.children import ask, busy_seconds, family
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
_FITTED = ((64, 1), (1024, 1), (4096, 1), (256, 8), (2048, 16), (64, 64), (1024, 64), (1024, 256))
_OF_KINDS = ((1024, 1), (1024, 8), (4096, 8), (1024, 64))
_KINDS: tuple[Kind, ...] = ("basic", "pseudotyped", "degree")
#: Trainers do not take batch after batch at once; a step of each is so long, in seconds, or longer
#: if the server would be busy.
_RANKS, _STEP = 8, 0.02
_MOST_NEGATIVES = 2e7
#: Small batches come many in a message, which lasts for many steps; more often, to have enough.
_LONGEST = 0.3
#: Of which the rate of one event loop follows.
_SMALL = (16, 1)
_ROUNDS, _SECONDS = 3, 2.0
_OPENED, _IDLE = 500, 500
_SERVICE = "/negserve.v1.SamplerService/"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@cache
def _fitted_graph() -> tuple[str, TriplesFactory]:
    return fb15k_237()


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


def _epoch_batches(
    target: str, config: SamplerConfig, batch_size: int, rank: int
) -> Generator[int, None, None]:
    """Read epoch after epoch; each step is a message, of so many batches.

    By gRPC alone: the client's buffers hold seconds of small batches, which would be missing.
    """
    epoch = EpochConfig(batch_size=batch_size, rank=rank, world_size=_RANKS)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        stream: Any = channel.unary_stream(_SERVICE + "SampleEpoch")
        while True:
            for answer in stream(request):
                yield len(pb.SampleEpochResponse.FromString(answer).batches.batches)


def _sample_batches(
    target: str, config: SamplerConfig, batch_size: int, rank: int
) -> Generator[int, None, None]:
    """Send one batch of triples after another; each step is its answer."""
    triples = np.random.default_rng(rank).permutation(_fitted_graph()[1].mapped_triples)
    options = {field.name: getattr(config, field.name) for field in fields(config)}
    with Client(target) as client:
        sampler = client.triples_factory("graph").open_sampler(**options)
        for first in itertools.cycle(range(0, len(triples) - batch_size, batch_size)):
            sampler.sample(triples[first : first + batch_size], first)
            yield 1


_BATCHES: dict[Call, Callable[[str, SamplerConfig, int, int], Generator[int, None, None]]] = {
    "epoch": _epoch_batches,
    "sample": _sample_batches,
}


@contextmanager
def _ranks(
    server: Served, call: Call, config: SamplerConfig, batch_size: int, step: float
) -> Iterator[Callable[[], int]]:
    """Let trainers take a batch a step; yields what counts batches.

    :param step: its duration, in seconds
    """
    counts, is_over = [0] * _RANKS, threading.Event()

    def train(rank: int) -> None:
        due = time.perf_counter() + step * rank / _RANKS
        with closing(_BATCHES[call](server.target, config, batch_size, rank)) as taken:
            for batches in taken:
                counts[rank] += batches
                due = max(due + min(batches * step, _LONGEST), time.perf_counter() - step)
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


def _loop_rate(server: Served, call: Call) -> float:
    """Return the rate of small batches of one process, of clients that do not decode them."""
    batch_size, k = _SMALL
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
    if call == "sample":
        command = [sys.executable, "-m", "benchmarks.light_client", server.target]
        client = subprocess.Popen(
            [*command, str(batch_size), str(k), str(_RANKS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            return _measured(server, lambda: ask(client))[1]
        finally:
            assert client.stdin is not None
            client.stdin.close()
            client.wait(30)
    epoch = EpochConfig(batch_size=batch_size)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    counts, is_over = [0] * _RANKS, threading.Event()

    def read(rank: int) -> None:
        with grpc.insecure_channel(server.target, options=_OPTIONS) as channel:
            stream: Any = channel.unary_stream(_SERVICE + "SampleEpoch")
            while not is_over.is_set():
                for answer in (answers := stream(request)):
                    counts[rank] += len(pb.SampleEpochResponse.FromString(answer).batches.batches)
                    if is_over.is_set():
                        answers.cancel()
                        return

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(_RANKS)]
    for thread in threads:
        thread.start()
    try:
        return _measured(server, lambda: sum(counts))[1]
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


def fit(
    seconds: Mapping[tuple[int, int], float], per_batch: float | None = None
) -> tuple[float, float, float, float]:
    """Fit costs to those of batches, none below 0.

    :param seconds: of a batch, by its size and k
    :param per_batch: what is known of the first
    :return: costs of a batch, of a positive with k = 1, of one with another k, of a negative
    """
    sizes = np.array(
        [(1, batch * (k == 1), batch * (k > 1), batch * k * (k > 1)) for batch, k in seconds],
        np.float64,
    )
    measured = np.array(list(seconds.values()))
    weighted, wanted = sizes / measured[:, None], np.ones(len(measured))
    known = [] if per_batch is None else [per_batch]
    found = nnls(weighted[:, len(known) :], wanted - weighted[:, : len(known)] @ known)[0]
    first, pair, positive, negative = [*known, *map(float, found)]
    return first, pair, positive, negative


def measure_calls(graph: Path) -> tuple[dict[Call, CallCosts], list[Row]]:
    """Measure the processor time of both calls."""
    calls: dict[Call, CallCosts] = {}
    rows: list[Row] = []
    with serving("--dataset", f"graph={graph}") as server:
        for call in CALLS:
            found: dict[str, tuple[float, float, float, float]] = {}
            measured: dict[tuple[str, int, int], float] = {}
            for kind in ("bernoulli", *_KINDS):
                sizes = _FITTED if kind == "bernoulli" else _OF_KINDS
                seconds = {size: _seconds(server, call, kind, *size) for size in sizes}
                found[kind] = fit(seconds, found["bernoulli"][0] if found else None)
                measured |= {(kind, *size): value for size, value in seconds.items()}
            found["typed"] = found["pseudotyped"]
            costs = CallCosts(
                per_batch=found["bernoulli"][0],
                per_pair={kind: each[1] for kind, each in found.items()},
                per_positive={kind: each[2] for kind, each in found.items()},
                per_negative={kind: each[3] for kind, each in found.items()},
                loop=1 / _loop_rate(server, call),
                per_stream=_stream_seconds(server),
            )
            calls[call] = costs
            rows += [
                {"case": "fitted", "call": call, "kind": kind, "batch": batch, "k": k,
                 "ms": 1e3 * value, "computed_ms": 1e3 * costs.of_batch(kind, batch, k)}
                for (kind, batch, k), value in measured.items()
            ]  # fmt: skip
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

    def batches_of(client: Client, rank: int) -> Iterator[object]:
        remote = client.triples_factory("graph")
        epoch = EpochConfig(batch_size=training.batch_size, rank=rank, world_size=training.ranks)
        if training.call == "epoch":
            stream = remote.epochs(sampler, epoch)
            while True:
                yield from stream
        options = {field.name: getattr(sampler, field.name) for field in fields(sampler)}
        opened = remote.open_sampler(**options)
        triples = np.random.default_rng(rank).permutation(factory.mapped_triples)
        for first in itertools.cycle(range(0, len(triples) - training.batch_size, 64)):
            yield opened.sample(triples[first : first + training.batch_size], first)

    def train(rank: int, target: str) -> None:
        with Client(target) as client:
            due = time.perf_counter()
            for _ in batches_of(client, rank):
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
    """Try trainings that no cost was fitted to."""
    small, large = graphs
    return [
        trial(*small, Training(12, 512, 32, 40, "bernoulli"), costs),
        trial(*large, Training(8, 1500, 20, 20, "bernoulli", "sample"), costs),
        trial(*large, Training(6, 2048, 10, 40, "pseudotyped"), costs),
    ]


def main(json_path: Path | None, *, is_writing: bool) -> None:
    """Measure and report."""
    with ExitStack() as stack:
        places = [
            (name, stack.enter_context(written(graph)), graph)
            for name, graph in (_fitted_graph(), zipf_1m())
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
