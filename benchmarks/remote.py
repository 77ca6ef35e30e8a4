"""Negatives per second delivered to a trainer as int64 triples: in process and over a server.

Run as ``python -m benchmarks.remote [--json FILE]``. The server is a separate process on
loopback; all systems take turns over five repetitions in one run.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import torch

from benchmarks.engine import BATCH_SIZE
from benchmarks.measured.other_samplers import OTHERS, other
from benchmarks.measured.plain_grpc import METHOD
from benchmarks.measured.pykeen_samplers import FILTERS, PYKEEN, PyKeen
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import Case, Turn, measure, repeated, show, write
from benchmarks.support.positives import Positives
from negserve import Client, EpochConfig, RemoteTriplesFactory, SamplerConfig
from negserve.sampling import BernoulliNegativeSampler, TriplesFactory
from negserve.sampling.expansion import expand
from negserve_server.graph import TriplesFactory as LocalTriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot

K = 64


#: Bytes of a message of ``SampleEpoch`` with this benchmark's batches.
_MESSAGE_BYTES = 3 * BATCH_SIZE * (K * 2 + 6)
SERVE = ("serve", "--log-level", "warning", "--listen", "127.0.0.1:0")


@contextmanager
def written(graph: LocalTriplesFactory) -> Iterator[Path]:
    """Write a graph to a snapshot for servers, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph"
        write_snapshot(graph.parts, path, made={})
        yield path


@contextmanager
def running(*module: str) -> Iterator[str]:
    """Run a module that serves on a free port; yields its address."""
    process = subprocess.Popen([sys.executable, "-m", *module], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.wait(30)


def synchronous(factory: TriplesFactory, triples: torch.Tensor, filtered: bool, k: int = K) -> Turn:
    """Call ``sample`` for one batch after another."""
    sampler = BernoulliNegativeSampler(factory, k, filtered)
    batches = torch.split(triples[torch.randperm(len(triples))], BATCH_SIZE)
    state = [0]

    def step() -> int:
        state[0] += 1
        negatives, _ = sampler.sample(batches[state[0] % (len(batches) - 1)])
        return negatives.shape[0] * negatives.shape[1]

    return repeated(step)


def pipelined(factory: TriplesFactory, triples: torch.Tensor) -> Turn:
    """Call ``sample`` for so many positives at once that messages overlap."""
    sampler = BernoulliNegativeSampler(factory, K, filtered=True)
    shuffled = triples[torch.randperm(len(triples))]
    batches = torch.split(shuffled, 32 * BATCH_SIZE)
    state = [0]

    def step() -> int:
        state[0] += 1
        negatives, _ = sampler.sample(batches[state[0] % (len(batches) - 1)])
        return negatives.shape[0] * negatives.shape[1]

    return repeated(step)


def streamed(factory: TriplesFactory, triples: torch.Tensor) -> Turn:
    """Take batch after batch from ``stream``, drawn ahead."""
    sampler = BernoulliNegativeSampler(factory, K, filtered=True)
    batches = torch.split(triples[torch.randperm(len(triples))], BATCH_SIZE)[:-1]
    stream = sampler.stream(itertools.cycle(batches))

    def step() -> int:
        negatives, _ = next(stream)
        return negatives.shape[0] * negatives.shape[1]

    return repeated(step)


def epochs(remote: RemoteTriplesFactory, whole_triples: bool) -> Turn:
    """Stream the batches of an epoch, and expand them to whole triples or not."""
    sampler = SamplerConfig(kind="bernoulli", num_negs_per_pos=K, filter_splits=("training",))
    stream = remote.epochs(sampler, EpochConfig(batch_size=BATCH_SIZE, tail="drop"))
    batches = (batch for _ in itertools.count() for batch in stream)

    def step() -> int:
        batch = next(batches)
        if whole_triples:
            expand(batch.negatives, torch.from_numpy(batch.positives))
        return int(batch.negatives.replaced.size)

    return repeated(step)


def in_cpp(target: str) -> Turn | str:
    """Let the C++ client stream epochs, and rebuild whole triples as columns."""
    program = Path(__file__).parents[1] / "examples" / "cpp" / "build" / "negserve-cpp"
    if not program.exists():
        return "examples/cpp/README.md says how to build it"
    command = [
        *(str(program), "bench", "graph", "--target", target, "--kind", "bernoulli"),
        *("-k", str(K), "--filter", "training", "--batch-size", str(BATCH_SIZE), "--tail", "drop"),
    ]

    def turn(seconds: float) -> float:
        done = subprocess.run(
            [*command, "--seconds", str(max(seconds, 0.001))],
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
        return float(done.stdout.split()[0])

    return turn


def plain(target: str) -> Turn:
    """Receive opaque bytes, and count the negatives that they would be."""
    channel = grpc.insecure_channel(
        target, options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    )
    stream: Any = channel.unary_stream(METHOD)
    messages = stream(b"")

    def step() -> int:
        return len(next(messages)) * K // (K * 2 + 6)

    return repeated(step)


def main(json_path: Path | None = None) -> None:
    """Measure and report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # as for PyKEEN, and because the server needs the other core
    name, graph = fb15k_237()
    with (
        written(graph) as file,
        running("negserve_server.cli", *SERVE, "--dataset", f"graph={file}") as target,
        running(
            "benchmarks.measured.without_engine", *SERVE, "--dataset", f"graph={file}"
        ) as idle_target,
        running("benchmarks.measured.plain_grpc", str(_MESSAGE_BYTES)) as plain_target,
        Client(target) as client,
        Client(idle_target) as idle_client,
        PyKeen(graph, BATCH_SIZE, ("bernoulli",)) as pykeen,
    ):
        triples = torch.from_numpy(graph.mapped_triples.copy())
        remote = client.triples_factory("graph")
        positives = Positives(graph.mapped_triples, BATCH_SIZE)
        cases: list[Case] = []

        def add(system: str, path: str, mode: str, turn: Turn | str) -> None:
            facts = {
                "system": system, "path": path, "filter": mode,
                "sampler": {name: sampler for name, sampler, _ in OTHERS}.get(system, "bernoulli"),
                "graph": name, "batch": BATCH_SIZE, "k": K,
            }  # fmt: skip
            cases.append((facts, turn))

        for mode in FILTERS:
            add(PYKEEN, "in process", mode, pykeen.turn("bernoulli", K, mode))
        for system, _, mode in OTHERS:
            add(system, "in process", mode, other(system, graph, positives, K, whole=True))
        for path, factory in (("in process", graph), ("Sample, synchronous", remote)):
            for mode in ("none", "exact"):
                add("negserve", path, mode, synchronous(factory, triples, mode == "exact"))
        add("negserve", "Sample, pipelined", "exact", pipelined(remote, triples))
        add("negserve", "Sample, stream of batches", "exact", streamed(remote, triples))
        add("negserve", "SampleEpoch", "exact", epochs(remote, whole_triples=True))
        add("negserve", "SampleEpoch, compact", "exact", epochs(remote, whole_triples=False))
        add("negserve, C++", "SampleEpoch", "exact", in_cpp(target))
        idle = epochs(idle_client.triples_factory("graph"), whole_triples=False)
        add("negserve", "SampleEpoch, compact, engine left out", "exact", idle)
        add("grpcio", "opaque bytes, as many", "-", plain(plain_target))
        rows = measure(cases, "remote")
    show("remote", rows)
    write("remote", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    main(parser.parse_args().json)
