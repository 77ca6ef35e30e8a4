"""``sample()`` over a server, next to an exchange of as many opaque bytes by grpcio alone.

Run as ``python -m benchmarks.exchange [--json FILE]``. Servers are separate processes on loopback;
all systems take turns over five repetitions in one run. Ways that work ahead are compared with
``SampleEpoch``.
"""

from __future__ import annotations

import argparse
import queue
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import torch

from benchmarks.measured.plain_grpc import EXCHANGE
from benchmarks.remote import SERVE, epochs, pipelined, running, streamed, written
from benchmarks.support import goals
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import Case, Turn, measure, repeated, show, write
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


def main(json_path: Path | None = None) -> None:
    """Measure and report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # because the server needs the other core
    name, graph = fb15k_237()
    with ExitStack() as stack:
        file = stack.enter_context(written(graph))
        server = ("negserve_server.cli", *SERVE, "--dataset", f"graph={file}")
        remote = stack.enter_context(Client(stack.enter_context(running(*server)))).triples_factory(
            "graph"
        )
        triples = torch.from_numpy(graph.mapped_triples.copy())
        cases: list[Case] = []

        def add(system: str, batch: int, k: int, turn: Turn) -> None:
            facts = {"system": system, "batch": batch, "k": k, "graph": name}
            cases.append((facts, turn))

        for batch, k in SIZES:
            num_bytes = batch * (k * _NEGATIVE_BYTES + 1)
            plain = stack.enter_context(running("benchmarks.measured.plain_grpc", str(num_bytes)))
            add(goals.GRPCIO, batch, k, exchanged(plain, batch, k))
            for way, is_whole in (("sample", True), ("sample_compact", False)):
                turn = sampled(remote, triples, batch, k, is_whole=is_whole)
                add(f"negserve, {way}", batch, k, turn)
        add("negserve, sample of 32 batches", 1024, 64, pipelined(remote, triples))
        add("negserve, stream", 1024, 64, streamed(remote, triples))
        add("negserve, SampleEpoch", 1024, 64, epochs(remote, whole_triples=True))
        rows = measure(cases, "exchange")
    show("exchange", rows)
    goals.show(goals.check_exchange(rows))
    write("exchange", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    main(parser.parse_args().json)
