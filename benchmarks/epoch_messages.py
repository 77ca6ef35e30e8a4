"""What servers of two checkouts do for an epoch, taking turns: what a change costs or gains.

Run as ``python -m benchmarks.epoch_messages --before DIR [--rounds N] [--seconds S]``. DIR is
another checkout, for example one made by ``git worktree add``. The client reads the messages of
``SampleEpoch`` and does not decode them. Prints the medians of negatives a second and of the
server's processor time for a negative, and the median of the ratios, with the lowest and the
highest. The first run compiles DIR's kernels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from negserve import EpochConfig, SamplerConfig
from negserve._protocol.messages import encode_epoch_request
from negserve.v1 import sampler_pb2 as pb

REPOSITORY = Path(__file__).parents[1]
DATA = Path(os.environ.get("NEGSERVE_DATA", REPOSITORY.parent / "shared" / "data"))
METHOD = "/negserve.v1.SamplerService/SampleEpoch"
#: k, batch size, ranks that share the epoch, and streams at once.
CASES = ((64, 1024, 1, 1), (64, 128, 1, 1), (64, 128, 4, 1), (1, 1024, 1, 1), (1, 1024, 1, 2))
_TICK = os.sysconf("SC_CLK_TCK")
_LARGEST = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]


class Server:
    """A server of one checkout, and the streams of a case from it."""

    def __init__(self, tree: Path, stack: ExitStack) -> None:
        path = os.pathsep.join(str(tree / half) for half in ("client", "server"))
        command = [sys.executable, "-m", "negserve_server.cli", "serve", "--log-level", "error"]
        command += ["--listen", "127.0.0.1:0", "--dataset", f"graph={DATA / 'fb15k-237'}"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=tree,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        assert process.stdout is not None
        self._pid = process.pid
        target = process.stdout.readline().split()[-1]
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
        begin, used, num_bytes = time.perf_counter(), self._processor_seconds(), 0
        while time.perf_counter() < begin + seconds:
            num_bytes += sum(len(next(stream)) for stream in streams)
        elapsed = time.perf_counter() - begin
        negatives = num_bytes * per_byte
        return negatives / elapsed, 1e9 * (self._processor_seconds() - used) / negatives

    def _processor_seconds(self) -> float:
        stat = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICK


def main(before: Path, rounds: int, seconds: float) -> None:
    """Measure and print."""
    with ExitStack() as stack:
        servers = [Server(tree, stack) for tree in (before, REPOSITORY)]
        print(
            f"{'':46} {'before':>8} {'after':>8} {'ratio':>7} {'lowest':>7} {'highest':>7}",
            flush=True,
        )
        for case in CASES:
            turns: list[list[tuple[float, float]]] = [[], []]
            for number in range(rounds):
                for i in (1, 0) if number % 2 else (0, 1):
                    turns[i].append(servers[i].measure(case, seconds))
            k, batch_size, world_size, num_streams = case
            name = f"k={k} batch {batch_size} ranks {world_size} streams {num_streams}"
            for column, (unit, scale) in enumerate((("M/s", 1e-6), ("server ns", 1.0))):
                old, new = ([turn[column] * scale for turn in side] for side in turns)
                ratios = [after / one for one, after in zip(old, new, strict=True)]
                print(
                    f"{name + ', ' + unit:46} {statistics.median(old):8.2f} "
                    f"{statistics.median(new):8.2f} {statistics.median(ratios):7.2f} "
                    f"{min(ratios):7.2f} {max(ratios):7.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    main(given.before, given.rounds, given.seconds)
