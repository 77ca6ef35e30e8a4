"""Processor time of each layer between the sampler and a trainer, nanoseconds per negative.

Run as ``python -m benchmarks.layers [--json FILE] [--seconds S]``. Epochs, Bernoulli, exact filter,
batch 1024, k = 64, FB15k-237. Each layer of a side contains those before it, so that the difference
of two rows is what a layer adds. The server's are measured in process, except for the whole server,
which is a process of its own that streams to a client here. All take turns over five repetitions.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import torch

from benchmarks.answers import Measured
from benchmarks.engine import BATCH_SIZE
from benchmarks.remote import SERVE, K, written
from benchmarks.support.children import busy_seconds, family
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

#: So long because the system counts a process's time in hundredths of a second.
_SECONDS = 1.0
_SAMPLER = SamplerConfig(kind="bernoulli", num_negs_per_pos=K, filter_splits=("training",))
_EPOCH = EpochConfig(batch_size=BATCH_SIZE, tail="drop")
#: Works for some seconds; returns the nanoseconds of processor time per negative.
Turn = Callable[[float], float]


def _turn(step: Step, clock: Callable[[], float]) -> Turn:
    def turn(seconds: float) -> float:
        step()
        count, begin = 0, clock()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            count += step()
        return 1e9 * (clock() - begin) / count

    return turn


def sampler(factory: TriplesFactory) -> Step:
    """Corrupt batches of positives."""
    opened, positives = factory.sampler(_SAMPLER), Positives(factory.mapped_triples, BATCH_SIZE)
    begins = itertools.count(0, BATCH_SIZE)
    return lambda: opened.sample(positives.next(), next(begins)).replaced.size


def epoch_batches(factory: TriplesFactory) -> Step:
    """Put the positives in order, gather them, and corrupt them."""
    epoch = factory.epoch(_SAMPLER, _EPOCH)
    indices = itertools.cycle(range(len(epoch)))
    return lambda: epoch.batch(next(indices)).negatives.replaced.size


@contextmanager
def epoch_messages(factory: TriplesFactory) -> Iterator[Turn]:
    """Let the server's service make messages, without gRPC; all its threads count."""
    scheduler = Scheduler(1)
    datasets = Datasets({"graph": factory})
    servicer = SamplerServicer(datasets, Mock(), Limits(), scheduler, (0, 1))
    asked: Any = _Asked()

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
                        sizes[len(answer)] = _num_negatives(answer)
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

    async def read_only(self) -> pb.SampleEpochRequest:
        return messages.encode_epoch_request("graph", "", _SAMPLER, _EPOCH, 0, 0)

    async def spend(self, _: int) -> None:
        pass


def _num_negatives(message: bytes) -> int:
    batches = pb.SampleEpochResponse.FromString(message).batches.batches
    return K * sum(batch.negatives.num_positives for batch in batches)


def decoded(measured: Measured, convert: Callable[[EpochBatch], object]) -> Step:
    """Decode and check a message, and convert its batches."""
    decode = measured.epoch_decoder()

    def step() -> int:
        batches = decode()
        for batch in batches:
            convert(batch)
        return sum(batch.negatives.replaced.size for batch in batches)

    return step


def received(dataset: RemoteTriplesFactory) -> Step:
    """Receive whole triples as a trainer does."""
    stream = TripleStream(
        dataset, sampler=_SAMPLER, batch_size=BATCH_SIZE, tail="drop", world_size=1, rank=0
    )
    batches = (batch for _ in itertools.count() for batch in stream)

    def step() -> int:
        negatives = next(batches).negatives  # type: ignore[union-attr]
        return negatives.shape[0] * negatives.shape[1]

    return step


@contextmanager
def _server(file: Path) -> Iterator[tuple[str, int]]:
    """Run a server; yields its address and its process id."""
    command = ["negserve_server.cli", *SERVE, "--dataset", f"graph={file}"]
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip(), process.pid
    finally:
        process.terminate()
        process.wait(30)


def main(json_path: Path | None, seconds: float) -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    name, graph = fb15k_237()
    with (
        written(graph) as file,
        _server(file) as (target, pid),
        Client(target) as client,
        epoch_messages(graph) as made,
    ):
        dataset = client.triples_factory("graph")
        measured = Measured(dataset, K, BATCH_SIZE)
        largest = graph.num_entities - 1
        receive = received(dataset)
        turns: dict[tuple[str, str], Turn] = {
            ("server", "sampler"): _turn(sampler(graph), time.thread_time),
            ("server", "+ order and gather"): _turn(epoch_batches(graph), time.thread_time),
            ("server", "+ encode"): made,
            ("server", "whole server"): _turn(receive, lambda: busy_seconds(family(pid))),
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
        }
        found: dict[tuple[str, str], list[float]] = {layer: [] for layer in turns}
        for number in range(-1, REPETITIONS):
            with console.status(f"layers, repetition {number + 1} of {REPETITIONS}"):
                for layer, turn in turns.items():
                    figure = turn(seconds if number >= 0 else seconds / 4)
                    if number >= 0:  # before that, caches and connections become warm
                        found[layer].append(figure)
    rows: list[Row] = [
        {
            "side": side, "layer": layer, "graph": name, "sampler": "bernoulli", "filter": "exact",
            "batch": BATCH_SIZE, "k": K, "ns_per_negative": statistics.median(figures),
            "least_ns": min(figures), "most_ns": max(figures), "repetitions": len(figures),
        }
        for (side, layer), figures in found.items()
    ]  # fmt: skip
    show("layers", rows)
    write("layers", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument(
        "--seconds", type=float, default=_SECONDS, help="of a repetition (default: %(default)s)"
    )
    given = parser.parse_args()
    main(given.json, given.seconds)
