"""What servers of two checkouts do for an epoch, taking turns: what a change costs or gains.

Run as ``python -m benchmarks.epoch_messages --base DIR [--rounds N] [--seconds S] [--json FILE]``.
DIR is another checkout, for example one made by ``git worktree add``. The client reads the messages
of ``SampleEpoch`` and does not decode them. Rows have the medians of negatives a second and of the
server's processor time for a negative, and those of their ratios to DIR's, with the lowest and the
highest. The first run compiles DIR's kernels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.support.children import HERE, Serving, serving
from benchmarks.support.measuring import Row, console, show, write
from negserve import EpochConfig, SamplerConfig
from negserve._protocol.messages import encode_epoch_request
from negserve.v1 import sampler_pb2 as pb

DATA = Path(os.environ.get("NEGSERVE_DATA", HERE.parent / "shared" / "data"))
METHOD = "/negserve.v1.SamplerService/SampleEpoch"
#: k, batch size, ranks that share the epoch, and streams at once.
CASES = ((64, 1024, 1, 1), (64, 128, 1, 1), (64, 128, 4, 1), (1, 1024, 1, 1), (1, 1024, 1, 2))
_LARGEST = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]


class Server:
    """A server of one checkout, and the streams of a case from it."""

    def __init__(self, tree: Path, stack: ExitStack) -> None:
        command = ("negserve_server.cli", "serve", "--log-level", "error")
        self._serving: Serving = stack.enter_context(
            serving(
                tree, *command, "--listen", "127.0.0.1:0",
                "--dataset", f"graph={DATA / 'fb15k-237'}",
            )
        )  # fmt: skip
        target = self._serving.target
        channel = stack.enter_context(grpc.insecure_channel(target, options=_LARGEST))
        self._call: Any = channel.unary_stream(METHOD)

    def _messages(self, request: bytes) -> Iterator[bytes]:
        """Yield the batches' messages of one epoch after another."""
        while True:
            messages = self._call(request)
            next(messages)
            yield from messages

    def measure(self, case: tuple[int, int, int, int], seconds: float) -> tuple[float, float]:
        """Return negatives a second, and nanoseconds of the server's processor time for one."""
        k, batch_size, world_size, num_streams = case
        config = EpochConfig(batch_size=batch_size, world_size=world_size)
        sampler = SamplerConfig(
            kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",), seed=1
        )
        request = encode_epoch_request("graph", "", sampler, config, 0, 0).SerializeToString()
        streams = [self._messages(request) for _ in range(num_streams)]
        batches = pb.SampleEpochResponse.FromString(next(streams[0])).batches
        num_positives = sum(batch.negatives.num_positives for batch in batches.batches)
        per_byte = k * num_positives / batches.ByteSize()
        end = time.perf_counter() + seconds / 4
        while time.perf_counter() < end:
            for stream in streams:
                next(stream)
        begin, used, num_bytes = time.perf_counter(), self._serving.busy(), 0
        while time.perf_counter() < begin + seconds:
            num_bytes += sum(len(next(stream)) for stream in streams)
        elapsed = time.perf_counter() - begin
        negatives = num_bytes * per_byte
        return negatives / elapsed, 1e9 * (self._serving.busy() - used) / negatives


def main(base: Path, rounds: int, seconds: float, json_path: Path | None) -> None:
    """Measure and report."""
    rows: list[Row] = []
    with ExitStack() as stack:
        servers = {"base": Server(base, stack), "this checkout": Server(HERE, stack)}
        for case in CASES:
            turns: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
            for number in range(rounds):
                with console.status(f"epoch messages, {case}, round {number + 1} of {rounds}"):
                    for name in reversed(servers) if number % 2 else servers:
                        turns[name].append(servers[name].measure(case, seconds))
            k, batch, world_size, streams = case
            for name, found in turns.items():
                rates, costs = zip(*found, strict=True)
                row: Row = {
                    "checkout": name, "batch": batch, "k": k, "world_size": world_size,
                    "streams": streams, "negatives_per_second": statistics.median(rates),
                    "ns_per_negative": statistics.median(costs), "repetitions": rounds,
                }  # fmt: skip
                for what, at in (("rate", 0), ("cost", 1)):
                    ratios = [
                        one[at] / other[at] for one, other in zip(found, turns["base"], strict=True)
                    ]
                    row[f"{what}_ratio"] = statistics.median(ratios)
                    row[f"least_{what}_ratio"] = min(ratios)
                    row[f"most_{what}_ratio"] = max(ratios)
                rows.append(row)
    show("epoch messages", rows)
    write("epoch_messages", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    main(given.base, given.rounds, given.seconds, given.json)
