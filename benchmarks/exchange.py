"""``sample()`` over a server, next to an exchange of as many opaque bytes by grpcio alone.

Run as ``python -m benchmarks.exchange [--base DIR] [--rounds N] [--seconds S] [--json FILE]``.
Servers are separate processes on loopback; all systems take turns. Their processor time for an
exchange is measured along. ``--base`` names an older checkout, whose server and client, a process
of its own, take turns with these. Ways that work ahead are compared with ``SampleEpoch``.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import torch

from benchmarks.measured.plain_grpc import EXCHANGE
from benchmarks.remote import SERVE, epochs, pipelined, streamed, trained, written
from benchmarks.support import goals
from benchmarks.support.children import HERE, Serving, serving, started
from benchmarks.support.graphs import fb15k_237, write_triples
from benchmarks.support.measuring import (
    REPETITIONS,
    SECONDS_PER_REPETITION,
    Case,
    Turn,
    measure,
    repeated,
    show,
    write,
)
from negserve import Client
from negserve.sampling import BernoulliNegativeSampler, TriplesFactory

#: Batch size and k.
SIZES = ((64, 1), (1024, 1), (1024, 64), (8192, 64))
#: Bytes of a positive that is sent, and of a negative that is received; each positive has a count.
_POSITIVE_BYTES, _NEGATIVE_BYTES = 5, 2


def exchanged(target: str, batch: int, k: int) -> Turn:
    """Send and receive opaque bytes, and count the negatives that they would be."""
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stream: Any = grpc.insecure_channel(target, options=options).stream_stream(EXCHANGE)
    answers = stream(iter(requests.get, None))
    request = bytes(batch * _POSITIVE_BYTES)

    def step() -> int:
        requests.put(request)
        next(answers)
        return batch * k

    return repeated(step)


def sampled(
    factory: TriplesFactory, triples: torch.Tensor, batch: int, k: int, *, is_whole: bool
) -> Turn:
    """Call ``sample`` or ``sample_compact`` for one batch after another."""
    sampler = BernoulliNegativeSampler(factory, k, filtered=True)
    call: Any = sampler.sample if is_whole else sampler.sample_compact
    batches = torch.split(triples[torch.randperm(len(triples))], batch)
    state = [0]

    def step() -> int:
        state[0] += 1
        call(batches[state[0] % (len(batches) - 1)])
        return batch * k

    return repeated(step)


class _Metered:
    """A turn that also measures the server's processor time for a batch.

    :ivar milliseconds: of each repetition
    """

    def __init__(self, turn: Turn, server: Serving, negatives: int) -> None:
        self._turn = turn
        self._server = server
        self._negatives = negatives
        self.milliseconds: list[float] = []

    def __call__(self, seconds: float) -> float:
        before, begin = self._server.busy(), time.perf_counter()
        rate = self._turn(seconds)
        used, elapsed = self._server.busy() - before, time.perf_counter() - begin
        if seconds:  # before that, the first step may compile something
            self.milliseconds.append(1e3 * used / (rate * elapsed / self._negatives))
        return rate


def main(base: Path | None, rounds: int, seconds: float, json_path: Path | None) -> None:
    """Measure and report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # because the server needs the other core
    name, graph = fb15k_237()
    with ExitStack() as stack:
        file = stack.enter_context(written(graph))
        command = ("negserve_server.cli", *SERVE, "--dataset")
        server = stack.enter_context(serving(HERE, *command, f"graph={file}"))
        remote = stack.enter_context(Client(server.target)).triples_factory("graph")
        triples = torch.from_numpy(graph.mapped_triples.copy())
        # Trainers of both checkouts, to compare them.
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        write_triples(graph, table := Path(folder, "graph.tsv"))
        trainers = []
        for system, checkout in ((goals.TRAINER, HERE), (goals.BASE, base)):
            if base is not None and checkout is not None:
                own = stack.enter_context(serving(checkout, *command, f"graph={table}"))
                module = "benchmarks.measured.trainer_child"
                child = stack.enter_context(started(checkout, module, own.target))
                trainers.append((system, own, child))
        cases: list[Case] = []
        metered: list[_Metered] = []

        def add(system: str, batch: int, k: int, turn: Turn, served: Serving = server) -> None:
            facts = {"system": system, "batch": batch, "k": k, "graph": name}
            metered.append(_Metered(turn, served, batch * k))
            cases.append((facts, metered[-1]))

        for batch, k in SIZES:
            num_bytes = batch * (k * _NEGATIVE_BYTES + 1)
            plain = stack.enter_context(
                serving(HERE, "benchmarks.measured.plain_grpc", str(num_bytes))
            )
            add(goals.GRPCIO, batch, k, exchanged(plain.target, batch, k), plain)
            for way, is_whole in (("sample", True), ("sample_compact", False)):
                turn = sampled(remote, triples, batch, k, is_whole=is_whole)
                add(f"negserve, {way}", batch, k, turn)
            for system, own, process in trainers:
                add(f"{system}, sample", batch, k, trained(process, "sample", batch, k), own)
        add("negserve, sample of 32 batches", 1024, 64, pipelined(remote, triples))
        add("negserve, stream", 1024, 64, streamed(remote, triples))
        add("negserve, SampleEpoch", 1024, 64, epochs(remote, whole_triples=True))
        rows = [
            {
                **row,
                "server_ms": statistics.median(each.milliseconds) if row["repetitions"] else None,
            }
            for row, each in zip(measure(cases, "exchange", seconds, rounds), metered, strict=True)
        ]
    show("exchange", rows)
    goals.show(goals.check_exchange(rows))
    write("exchange", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="an older checkout to compare with")
    parser.add_argument("--rounds", type=int, default=REPETITIONS)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_REPETITION,
                        help="of a repetition (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    main(given.base, given.rounds, given.seconds, given.json)
