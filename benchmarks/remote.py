"""Negatives per second delivered to a trainer as int64 triples: in process and over a server.

Run as ``python -m benchmarks.remote [--base DIR] [--size BATCHxK] [--rounds N] [--seconds S]
[--json FILE]``. Servers are separate processes on loopback, and so are the trainers of
``SampleEpoch`` and ``sample()`` (:mod:`benchmarks.measured.trainer_child`). ``--base`` names an
older checkout: its server and its trainer take turns with those of this one. All systems of a size
take turns over the rounds, size after size.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import torch

from benchmarks.engine import BATCH_SIZE
from benchmarks.measured.other_samplers import OTHERS, other
from benchmarks.measured.plain_grpc import METHOD
from benchmarks.measured.pykeen_samplers import FILTERS, PYKEEN, PyKeen
from benchmarks.support import goals
from benchmarks.support.children import HERE, serving, started, told
from benchmarks.support.graphs import fb15k_237, write_triples
from benchmarks.support.measuring import Case, Row, Turn, measure, repeated, show, write
from benchmarks.support.positives import Positives
from negserve import Client, EpochConfig, RemoteTriplesFactory, SamplerConfig
from negserve._protocol.messages import encode_epoch_request
from negserve.sampling import BernoulliNegativeSampler, TriplesFactory
from negserve.sampling.expansion import expand
from negserve.v1 import sampler_pb2 as pb
from negserve_server.graph import TriplesFactory as LocalTriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot

K = 64
#: Batch size and k. The first one has rows of every way to draw.
SIZES = ((BATCH_SIZE, K), (128, K), (BATCH_SIZE, 1))
#: Ways of :mod:`benchmarks.measured.trainer_child`, and the paths of their rows.
WAYS = {
    "sample": "Sample, synchronous",
    "epoch": "SampleEpoch",
    "compact": "SampleEpoch, compact",
}
_SECONDS, _ROUNDS = 0.4, 7
_LARGEST = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
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
    """Run a module of this checkout that serves on a free port; yields its address."""
    with serving(HERE, *module) as server:
        yield server.target


@contextmanager
def trainer(checkout: Path, triples: Path) -> Iterator[subprocess.Popen[str]]:
    """Run server and trainer of a checkout; yields the trainer.

    :param triples: the graph, as a file for servers of any release
    """
    with (
        serving(checkout, "negserve_server.cli", *SERVE, "--dataset", f"graph={triples}") as server,
        started(checkout, "benchmarks.measured.trainer_child", server.target) as process,
    ):
        yield process


def trained(process: subprocess.Popen[str], way: str, batch: int, k: int) -> Turn:
    """Let a trainer take negatives."""

    def turn(seconds: float) -> float:
        found = told(process, way=way, batch=batch, k=k, seconds=seconds)
        return float(found["negatives"] / found["seconds"])

    return turn


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


def epoch_message(target: str, batch: int, k: int) -> tuple[int, int]:
    """Return bytes and negatives of a message of ``SampleEpoch``."""
    sampler = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
    epoch = EpochConfig(batch_size=batch, tail="drop")
    request = encode_epoch_request("graph", "", sampler, epoch, 0, 0).SerializeToString()
    with grpc.insecure_channel(target, options=_LARGEST) as channel:
        stream: Any = channel.unary_stream("/negserve.v1.SamplerService/SampleEpoch")
        messages = stream(request)
        next(messages)  # configured
        message = next(messages)
        messages.cancel()
    batches = pb.SampleEpochResponse.FromString(message).batches.batches
    return len(message), k * sum(each.negatives.num_positives for each in batches)


def plain(target: str, num_negatives: int) -> Turn:
    """Receive opaque bytes, and count the negatives that they would be.

    :param num_negatives: of a message
    """
    stream: Any = grpc.insecure_channel(target, options=_LARGEST).unary_stream(METHOD)
    messages = stream(b"")

    def step() -> int:
        next(messages)
        return num_negatives

    return repeated(step)


class _Size:
    """The cases of one batch size and k."""

    def __init__(self, graph_name: str, batch: int, k: int) -> None:
        self._facts = {"graph": graph_name, "batch": batch, "k": k}
        self.cases: list[Case] = []

    def add(self, system: str, path: str, mode: str, turn: Turn | str, **further: object) -> None:
        """Add a case."""
        sampler = {name: sampler for name, sampler, _ in OTHERS}.get(system, "bernoulli")
        facts = {"system": system, "path": path, "filter": mode, "sampler": sampler, **self._facts}
        self.cases.append(({**facts, **further}, turn))


def main(
    base: Path | None,
    sizes: tuple[tuple[int, int], ...],
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Measure and report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # as for PyKEEN, and because the server needs the other core
    name, graph = fb15k_237()
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        write_triples(graph, triples := Path(folder, "graph.tsv"))
        trainers = {"negserve": stack.enter_context(trainer(HERE, triples))}
        if base is not None:
            trainers[goals.BASE] = stack.enter_context(trainer(base, triples))
        file = stack.enter_context(written(graph))
        target = stack.enter_context(
            running("negserve_server.cli", *SERVE, "--dataset", f"graph={file}")
        )
        remote = stack.enter_context(Client(target)).triples_factory("graph")
        for batch, k in sizes:
            size = _Size(name, batch, k)
            positives = torch.from_numpy(graph.mapped_triples.copy())
            num_bytes, num_negatives = epoch_message(target, batch, k)
            with ExitStack() as own:
                pykeen = own.enter_context(PyKeen(graph, batch, ("bernoulli",)))
                for mode in FILTERS:
                    size.add(PYKEEN, "in process", mode, pykeen.turn("bernoulli", k, mode))
                if (batch, k) == SIZES[0]:
                    _add_others(size, graph, remote, target, positives)
                    idle = own.enter_context(_without_engine(file))
                    size.add("negserve", "SampleEpoch, compact, engine left out", "exact", idle)
                for system, process in trainers.items():
                    for way, path in WAYS.items():
                        size.add(system, path, "exact", trained(process, way, batch, k))
                plain_target = own.enter_context(
                    running("benchmarks.measured.plain_grpc", str(num_bytes))
                )
                turn = plain(plain_target, num_negatives)
                size.add(
                    "grpcio", "opaque bytes, as many", "-", turn,
                    negatives_per_byte=num_negatives / num_bytes,
                )  # fmt: skip
                rows += measure(size.cases, f"remote, {batch} x {k}", seconds, rounds)
    show("remote", rows)
    goals.show(goals.check_remote(rows))
    write("remote", rows, json_path, seconds=seconds)


def _add_others(
    size: _Size,
    graph: LocalTriplesFactory,
    remote: RemoteTriplesFactory,
    target: str,
    triples: torch.Tensor,
) -> None:
    """Add what is measured at one size only."""
    positives = Positives(graph.mapped_triples, BATCH_SIZE)
    for system, _, mode in OTHERS:
        size.add(system, "in process", mode, other(system, graph, positives, K, whole=True))
    for mode in ("none", "exact"):
        size.add("negserve", "in process", mode, synchronous(graph, triples, mode == "exact"))
    size.add("negserve", WAYS["sample"], "none", synchronous(remote, triples, False))
    size.add("negserve", "Sample, pipelined", "exact", pipelined(remote, triples))
    size.add("negserve", "Sample, stream of batches", "exact", streamed(remote, triples))
    size.add("negserve, C++", "SampleEpoch", "exact", in_cpp(target))


@contextmanager
def _without_engine(file: Path) -> Iterator[Turn]:
    module = "benchmarks.measured.without_engine"
    with running(module, *SERVE, "--dataset", f"graph={file}") as target, Client(target) as client:
        yield epochs(client.triples_factory("graph"), whole_triples=False)


def _size(text: str) -> tuple[int, int]:
    batch, _, k = text.partition("x")
    return int(batch), int(k)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="an older checkout to compare with")
    parser.add_argument("--size", type=_size, action="append",
                        help="batch size x k to measure alone; may be given again")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--seconds", type=float, default=_SECONDS,
                        help="of a repetition (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    main(given.base, tuple(given.size or SIZES), given.rounds, given.seconds, given.json)
