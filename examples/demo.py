"""The main job in one run: serve a graph, connect, stream negatives, check them.

Starts ``negserve-server`` on the embedded graph, streams corrupted batches of its training
triples for several passes, prints some with labels, and counts known triples among them. The exit
status is 0 only if there are known triples without a filter, and none with it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from negserve import Client, RemoteTriplesFactory
from negserve.sampling import BasicNegativeSampler, BernoulliNegativeSampler, NegativeSampler
from negserve_server.graph import TriplesFactory

_START_SECONDS = 120.0
_BATCH_SIZE = 512

console = Console()


@contextmanager
def running_server() -> Iterator[str]:
    """Run a server on a free port until the block ends; yields its address."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "negserve_server.cli", "serve"),
            *("--listen", "127.0.0.1:0", "--log-level", "warning"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        with console.status("starting the server (the first time, it compiles its kernels)"):
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"the server did not start: {line!r}")
            target = line.removeprefix("listening on ").strip()
            wait_until_serving(target)
        yield target
    finally:
        process.terminate()
        status = process.wait(30)
        console.print(f"server ended with status {status}")
    if status != 0:
        raise RuntimeError(f"the server ended with status {status}")


def wait_until_serving(target: str) -> None:
    """Wait until the health service answers SERVING."""
    with grpc.insecure_channel(target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=_START_SECONDS, wait_for_ready=True
        )
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError(f"health says {answer.status}")


def stream(
    sampler: NegativeSampler, positives: torch.Tensor, passes: int, title: str
) -> tuple[int, float]:
    """Stream corrupted batches; return the number of known negatives, and negatives per second."""
    batches = torch.split(positives, _BATCH_SIZE)
    num_known = num_negatives = 0
    seconds = 0.0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for batch in progress.track(list(batches) * passes, description=title):
            begin = time.perf_counter()
            negatives, _ = sampler.sample(batch)
            seconds += time.perf_counter() - begin
            num_negatives += negatives.shape[0] * negatives.shape[1]
            kept, _ = sampler.filter_negative_triples(negatives)
            num_known += negatives.shape[0] * negatives.shape[1] - len(kept)
    return num_known, num_negatives / seconds


def show_some(
    sampler: NegativeSampler, factory: RemoteTriplesFactory, positives: torch.Tensor
) -> None:
    """Print a few negatives with labels, next to their positives."""
    generator = torch.Generator().manual_seed(1)
    some = positives[torch.randperm(len(positives), generator=generator)[:3]]
    negatives, _ = sampler.sample(some, position=0)
    table = Table("positive", "negatives")
    for positive, row in zip(some.tolist(), negatives[:, :: sampler.num_negs_per_pos // 4].tolist(),
                             strict=True):  # fmt: skip
        table.add_row(label(factory, positive), "\n".join(label(factory, each) for each in row))
    console.print(table)


def label(factory: RemoteTriplesFactory, triple: list[int]) -> str:
    """Return a triple as labels."""
    head, relation, tail = triple
    return (
        f"{factory.entity_labels[head]} · {factory.relation_labels[relation]} · "
        f"{factory.entity_labels[tail]}"
    )


def main() -> int:
    """Run the demonstration; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=5, help="passes over the training triples")
    parser.add_argument("-k", type=int, default=64, help="negatives per positive")
    arguments = parser.parse_args()
    positives = torch.from_numpy(TriplesFactory.world().mapped_triples.copy())
    held = True
    results = Table("sampler", "filter", "known negatives", "negatives/s")
    with running_server() as target, Client(target) as client:
        factory = client.triples_factory("world")
        console.print(factory)
        for sampler_class in (BasicNegativeSampler, BernoulliNegativeSampler):
            name = sampler_class.get_normalized_name()
            show_some(sampler_class(factory, arguments.k, filtered=True), factory, positives)
            for filtered in (False, True):
                sampler = sampler_class(factory, arguments.k, filtered=filtered)
                mode = "exact" if filtered else "none"
                num_known, rate = stream(
                    sampler, positives, arguments.passes, f"{name}, filter {mode}"
                )
                results.add_row(name, mode, f"{num_known:,}", f"{rate / 1e6:.1f} M")
                held &= (num_known == 0) == filtered
    console.print(results)
    console.print(
        "unfiltered negatives contain known triples, filtered ones none"
        if held
        else "[red]NOT as promised: filtered must be 0, unfiltered above 0"
    )
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
