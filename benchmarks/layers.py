"""Processor time of each layer between the sampler and a trainer, nanoseconds per negative.

Run as ``python -m benchmarks.layers [--json FILE] [--rounds N] [--seconds S]``. Epochs, Bernoulli,
exact filter, FB15k-237, some batch sizes and k. Each layer of a side contains those before it, so
that the difference of two rows is what a layer adds. The server's are measured in process, except
for the whole server, which is a process of its own that streams to a client here. Beside them: what
it takes to fill an array of int64 triples, and PyKEEN's sampler in a process of its own. All of a
size take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import torch

from benchmarks.answers import Measured
from benchmarks.expansion import drawn, fill_triples
from benchmarks.measured.pykeen_samplers import PYKEEN, PyKeen
from benchmarks.remote import SERVE, SIZES, written
from benchmarks.support import goals
from benchmarks.support.children import HERE, Serving, serving
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import REPETITIONS, Row, Step, console, show, write
from benchmarks.support.positives import Positives
from negserve import Client, EpochConfig, RemoteTriplesFactory, SamplerConfig
from negserve._protocol import messages
from negserve.data import TripleStream
from negserve.data.triple_batch import compact_batch, triple_batch
from negserve.types.epoch import EpochBatch
from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.scheduler import Scheduler
from negserve_server.config.limits import Limits
from negserve_server.graph import TriplesFactory
from negserve_server.publishing.datasets import Datasets
from negserve_server.service.servicer import SamplerServicer

_SECONDS = 0.35
#: Share of a turn's duration for what was read ahead meanwhile.
_SETTLING = 0.25
#: Works for some seconds; returns the nanoseconds of processor time per negative.
Turn = Callable[[float], float]


@dataclass(frozen=True)
class Size:
    """What epochs are of."""

    batch: int
    k: int

    @property
    def sampler(self) -> SamplerConfig:
        """Which negatives are drawn."""
        return SamplerConfig(kind="bernoulli", num_negs_per_pos=self.k, filter_splits=("training",))

    @property
    def epoch(self) -> EpochConfig:
        """Which positives come."""
        return EpochConfig(batch_size=self.batch, tail="drop")


def _turn(step: Step, clock: Callable[[], float]) -> Turn:
    def turn(seconds: float) -> float:
        until = time.perf_counter() + _SETTLING * seconds
        while True:
            step()
            if time.perf_counter() >= until:
                break
        count, begin = 0, clock()
        until = time.perf_counter() + seconds
        while True:
            count += step()
            if time.perf_counter() >= until:
                return 1e9 * (clock() - begin) / count

    return turn


def sampler(factory: TriplesFactory, size: Size) -> Step:
    """Corrupt batches of positives."""
    opened = factory.sampler(size.sampler)
    positives = Positives(factory.mapped_triples, size.batch)
    begins = itertools.count(0, size.batch)
    return lambda: opened.sample(positives.next(), next(begins)).replaced.size


def epoch_batches(factory: TriplesFactory, size: Size) -> Step:
    """Put the positives in order, gather them, and corrupt them."""
    epoch = factory.epoch(size.sampler, size.epoch)
    indices = itertools.cycle(range(len(epoch)))
    return lambda: epoch.batch(next(indices)).negatives.replaced.size


@contextmanager
def epoch_messages(factory: TriplesFactory, size: Size) -> Iterator[Turn]:
    """Let the server's service make messages, without gRPC; all its threads count."""
    scheduler = Scheduler(1)
    datasets = Datasets({"graph": factory})
    servicer = SamplerServicer(datasets, Mock(), Limits(), scheduler, (0, 1))
    asked: Any = _Asked(size)

    async def make(seconds: float) -> float:
        count, until = 0, time.perf_counter() + seconds
        begin = time.process_time()
        sizes: dict[int, int] = {}  # decoding is not the server's work
        while time.perf_counter() < until:
            stream: AsyncGenerator[object, None] = servicer.sample_epoch(asked)
            async with aclosing(stream) as answers:
                async for answer in answers:
                    if not isinstance(answer, bytes):
                        continue
                    if len(answer) not in sizes:
                        sizes[len(answer)] = size.k * _num_positives(answer)
                    count += sizes[len(answer)]
                    if time.perf_counter() >= until:
                        break
        return 1e9 * (time.process_time() - begin) / count

    try:
        yield lambda seconds: asyncio.run(make(seconds))
    finally:
        scheduler.close()


class _Asked:
    """What the service needs of a stream."""

    def __init__(self, size: Size) -> None:
        self._request = messages.encode_epoch_request("graph", "", size.sampler, size.epoch, 0, 0)

    async def read_only(self) -> pb.SampleEpochRequest:
        return self._request

    async def spend(self, _: int) -> None:
        pass


def _num_positives(message: bytes) -> int:
    batches = pb.SampleEpochResponse.FromString(message).batches.batches
    return sum(batch.negatives.num_positives for batch in batches)


def decoded(measured: Measured, convert: Callable[[EpochBatch], object]) -> Step:
    """Decode and check a message, and convert its batches."""
    decode = measured.epoch_decoder()

    def step() -> int:
        batches = decode()
        for batch in batches:
            convert(batch)
        return sum(batch.negatives.replaced.size for batch in batches)

    return step


def received(dataset: RemoteTriplesFactory, size: Size) -> Step:
    """Receive whole triples as a trainer does."""
    stream = TripleStream(
        dataset, sampler=size.sampler, batch_size=size.batch, tail="drop", world_size=1, rank=0
    )
    batches = (batch for _ in itertools.count() for batch in stream)

    def step() -> int:
        negatives = next(batches).negatives  # type: ignore[union-attr]
        return negatives.shape[0] * negatives.shape[1]

    return step


def filled(size: Size) -> Step:
    """Fill arrays of int64 triples, without reading anything."""
    batch, positives = drawn(size.batch, size.k)

    def step() -> int:
        fill_triples(batch, positives)
        return size.batch * size.k

    return step


@contextmanager
def _layers(
    graph: TriplesFactory, dataset: RemoteTriplesFactory, server: Serving, size: Size
) -> Iterator[dict[tuple[str, str], Turn]]:
    """Yield the turns of a size, by side and layer."""
    measured = Measured(dataset, size.k, size.batch)
    largest = graph.num_entities - 1
    receive = received(dataset, size)
    with (
        epoch_messages(graph, size) as made,
        PyKeen(graph, size.batch, ("bernoulli",), ()) as pykeen,
    ):
        yield {
            ("server", "sampler"): _turn(sampler(graph, size), time.thread_time),
            ("server", "+ order and gather"): _turn(
                epoch_batches(graph, size), time.thread_time
            ),
            ("server", "+ encode"): made,
            ("server", "whole server"): _turn(receive, server.busy),
            ("client", "decode"): _turn(decoded(measured, lambda _: None), time.thread_time),
            ("client", "+ tensors"): _turn(
                decoded(measured, lambda batch: compact_batch(batch, largest, {})),
                time.thread_time,
            ),
            ("client", "+ expand"): _turn(
                decoded(measured, lambda batch: triple_batch(batch, {}, by_column=False)),
                time.thread_time,
            ),
            ("client", "whole client"): _turn(receive, time.process_time),
            (goals.FLOOR, "filling the array"): _turn(filled(size), time.thread_time),
            (PYKEEN, "unfiltered"): pykeen.processor_ns("bernoulli", size.k, "none"),
        }  # fmt: skip


def main(json_path: Path | None, rounds: int, seconds: float) -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    name, graph = fb15k_237()
    rows: list[Row] = []
    with ExitStack() as stack:
        file = stack.enter_context(written(graph))
        server = stack.enter_context(
            serving(HERE, "negserve_server.cli", *SERVE, "--dataset", f"graph={file}")
        )
        dataset = stack.enter_context(Client(server.target)).triples_factory("graph")
        for size in (Size(*each) for each in SIZES):
            found: dict[tuple[str, str], list[float]] = {}
            with _layers(graph, dataset, server, size) as turns:
                for turn in turns.values():
                    turn(seconds / 4)  # caches and connections become warm
                for number in range(rounds):
                    status = f"layers, {size.batch} x {size.k}, round {number + 1} of {rounds}"
                    with console.status(status):
                        for layer, turn in turns.items():
                            found.setdefault(layer, []).append(turn(seconds))
            rows += [
                {
                    "side": side, "layer": layer, "graph": name, "sampler": "bernoulli",
                    "filter": {PYKEEN: "none", goals.FLOOR: "-"}.get(side, "exact"),
                    "batch": size.batch, "k": size.k, "ns_per_negative": statistics.median(figures),
                    "least_ns": min(figures), "most_ns": max(figures), "repetitions": len(figures),
                }
                for (side, layer), figures in found.items()
            ]  # fmt: skip
    show("layers", rows)
    goals.show(goals.check_layers(rows))
    write("layers", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--rounds", type=int, default=REPETITIONS)
    parser.add_argument(
        "--seconds", type=float, default=_SECONDS, help="of a repetition (default: %(default)s)"
    )
    given = parser.parse_args()
    main(given.json, given.rounds, given.seconds)
