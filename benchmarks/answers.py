"""Cost of the client's checks of answers, next to the whole cost of an answer.

Run as ``python -m benchmarks.answers [--json FILE]``. The server is a separate process on
loopback. *Whole*: time from one batch to the next as a trainer sees it, compact, without
rebuilding whole triples. *Decoding*: processor time for decoding one received message, with the
checks of values and without them; the comparison of lengths and positions is part of both. All
cases take turns; the lowest time of each counts, since other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.remote import SERVE, running, written
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import Row, Step, show, write
from negserve import Client, EpochConfig, RemoteTriplesFactory, SamplerConfig
from negserve._protocol.pipelines import SamplePipeline
from negserve._sync.interrupts import run_sync
from negserve.types.epoch import EpochBatch
from negserve.v1 import sampler_pb2 as pb

#: k and batch size.
SIZES = ((64, 1024), (64, 128), (1, 1024))
_CHECKS = (
    "negserve._protocol.sampler_answers.BatchReader._check_counts",
    "negserve._protocol.sampler_answers.BatchReader._check_values",
    "negserve._protocol.sampler_answers.BatchReader._check_originals",
    "negserve._protocol.epoch_progress.EpochProgress._check_positives",
)
_SECONDS = 30.0
_TURNS = 5
_TURN_SECONDS = 0.1
_ROUNDS = 5


def _nothing(*_: object) -> None: ...


@contextmanager
def unchecked() -> Iterator[None]:
    """Disable the checks of values."""
    with ExitStack() as stack:
        for name in _CHECKS:
            stack.enter_context(mock.patch(name, _nothing))
        yield


def lowest(step: Step, clock: Callable[[], float]) -> float:
    """Return the lowest nanoseconds per negative of several turns."""
    turns = []
    for _ in range(_TURNS):
        count, begin = 0, clock()
        until = time.perf_counter() + _TURN_SECONDS
        while time.perf_counter() < until:
            count += step()
        turns.append((clock() - begin) / count * 1e9)
    return min(turns)


class Measured:
    """One dataset, sampler and batch size."""

    def __init__(self, dataset: RemoteTriplesFactory, k: int, batch_size: int) -> None:
        self._dataset = dataset
        self._sampler = SamplerConfig(
            kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",), seed=1
        )
        self._config = EpochConfig(batch_size=batch_size, tail="drop")
        self._remote = dataset.open_sampler(
            kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",), seed=1
        )
        rng = np.random.default_rng(0)
        sizes = dataset.num_entities, dataset.num_relations, dataset.num_entities
        self._positives = np.stack([rng.integers(0, size, batch_size) for size in sizes], axis=1)

    def whole_sample(self) -> Step:
        """Call ``sample`` for one batch after another."""
        positions = itertools.count(0, len(self._positives))

        def step() -> int:
            return int(self._remote.sample(self._positives, next(positions)).replaced.size)

        return step

    def whole_epoch(self) -> Step:
        """Take batches of an epoch."""
        stream = self._dataset.epochs(self._sampler, self._config)
        batches = (batch for _ in itertools.count() for batch in stream)
        return lambda: int(next(batches).negatives.replaced.size)

    def _answers(self, rpc: str, requests: list[Any], count: int) -> list[Any]:
        """Return the first messages of a stream."""

        async def read() -> list[Any]:
            request = requests[0] if rpc == "SampleEpoch" else None
            with await self._dataset._transport.open(rpc, request) as call:
                if request is None:
                    call.send_all(requests)
                return [await call.next(_SECONDS) for _ in range(count)]

        return run_sync(read)

    def decode_sample(self) -> Step:
        """Decode one answer of ``Sample`` repeatedly."""
        (request,) = self._pipeline().start()
        _, answer = self._answers(
            "Sample", [self._remote._opened.value.stream._configuration, request], 2
        )

        def step() -> int:
            pipeline = self._pipeline()
            pipeline.take(answer)
            return int(pipeline.pop().replaced.size)

        return step

    def _pipeline(self) -> SamplePipeline:
        pipeline = self._remote._opened.value.stream.pipeline(ahead=1)
        pipeline.add(self._positives, 0)
        return pipeline

    def epoch_decoder(self) -> Callable[[], list[EpochBatch]]:
        """Return what decodes and checks the batches of an epoch's first message."""
        stream = self._dataset.epochs(self._sampler, self._config)
        request: pb.SampleEpochRequest = stream._progress().request()
        configured, message = self._answers("SampleEpoch", [request], 2)

        def decode() -> list[EpochBatch]:
            progress = stream._progress()
            progress.take(configured)
            taken = progress.take(message)
            assert taken is not None
            return taken[0]

        return decode

    def decode_epoch(self) -> Step:
        """Decode the first message of an epoch repeatedly."""
        decode = self.epoch_decoder()
        return lambda: sum(batch.negatives.replaced.size for batch in decode())


def main(json_path: Path | None = None) -> None:
    """Measure and report."""
    name, graph = fb15k_237()
    with (
        written(graph) as file,
        running("negserve_server.cli", *SERVE, "--dataset", f"graph={file}") as target,
        Client(target) as client,
    ):
        dataset = client.triples_factory("graph")
        rows: list[Row] = []
        for k, batch_size in SIZES:
            measured = Measured(dataset, k, batch_size)
            for rpc, whole, decode in (
                ("Sample", measured.whole_sample(), measured.decode_sample()),
                ("SampleEpoch", measured.whole_epoch(), measured.decode_epoch()),
            ):
                figures: dict[str, float] = {}
                for _ in range(_ROUNDS):
                    for what, step, clock in (
                        ("whole", whole, time.perf_counter),
                        ("decoding", decode, time.thread_time),
                        ("decoding, unchecked", decode, time.thread_time),
                    ):
                        with unchecked() if "unchecked" in what else nullcontext():
                            figure = lowest(step, clock)
                        figures[what] = min(figure, figures.get(what, figure))
                rows += [
                    {
                        "path": rpc,
                        "graph": name,
                        "k": k,
                        "batch": batch_size,
                        "what": what,
                        "ns_per_negative": figure,
                    }
                    for what, figure in figures.items()
                ]
    show("answers", rows)
    write("answers", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    main(parser.parse_args().json)
