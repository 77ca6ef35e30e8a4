"""Latency of a small stream next to many busy or large streams, and the throughput of those.

Run as ``python -m benchmarks.fairness [--server FOLDER]... [--json FILE]``. Each server is a
separate process on loopback, and so are the clients of the load. Clients send prepared frames, four
requests ahead of the answers, and do not decode these (:mod:`benchmarks.measured.light_client`;
epochs are read by gRPC in Python), but they do use the same processors. ``--server`` names a
checkout whose server is measured; several take turns in one run. Latency is measured in the small
stream's process, from writing the request to reading the answer. As all processes share this
machine, each case is also measured with the small stream alone on a second server while the load
runs on the first: that latency is the machine's share, and the rest is the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.support.children import ask
from benchmarks.support.measuring import RESULTS, Row, show, write
from negserve import EpochConfig, SamplerConfig
from negserve._protocol import messages
from negserve.v1 import sampler_pb2 as pb

_SERVICE = "/negserve.v1.SamplerService/"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
_SMALL_BATCH = 128
#: Duration of a training step, in seconds.
_STEP = 0.005
#: The load: number of streams, and their requests.
_OTHERS = {
    "nobody": (0, "sample", 0, 0),
    "60 busy, 1024 x 16": (60, "sample", 1024, 16),
    "60 busy, 128 x 16": (60, "sample", 128, 16),
    "8 large, 8192 x 64": (8, "sample", 8192, 64),
    "8 epochs, 1024 x 64": (8, "epoch", 1024, 64),
}
#: p50 and p99 in seconds, negatives per second.
Figures = dict[str, float]
_ENTITIES, _RELATIONS, _TRIPLES = 14_505, 237, 272_115


def sample_requests(config: SamplerConfig, batch: int) -> tuple[bytes, bytes]:
    """Return the configuration and a request with random positives of FB15k-237, encoded."""
    first = pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            dataset="graph", sampler=messages.encode_config(config)
        )
    )
    rng = np.random.default_rng(0)
    request = pb.SampleRequest()
    for name, number, dtype in (
        ("heads", _ENTITIES, "<u2"), ("relations", _RELATIONS, "u1"), ("tails", _ENTITIES, "<u2"),
    ):  # fmt: skip
        ids = getattr(request.positives.triples, name)
        ids.data = rng.integers(0, number, batch).astype(dtype).tobytes()
        ids.width = np.dtype(dtype).itemsize
    return first.SerializeToString(), request.SerializeToString()


def _sample(channel: grpc.Channel, batch: int, k: int) -> Generator[None, None, None]:
    """Request one batch after another; each step is one answer."""
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
    first, request = sample_requests(config, batch)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stream: Any = channel.stream_stream(_SERVICE + "Sample")
    answers = stream(iter(requests.get, None))
    requests.put(first)
    next(answers)
    while True:
        requests.put(request)
        next(answers)
        yield


def _epoch(channel: grpc.Channel, batch: int, k: int) -> Iterator[int]:
    """Stream epochs; each step is a message, and yields its size in bytes."""
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
    request = messages.encode_epoch_request(
        "graph", "", config, EpochConfig(batch_size=batch), 0, 0
    )
    while True:
        stream: Any = channel.unary_stream(_SERVICE + "SampleEpoch")
        answers = stream(request.SerializeToString())
        next(answers)
        for message in answers:
            yield len(message)


def _read_epochs(target: str, batch: int, k: int, number: int) -> None:
    """Read epochs in a separate process; print the number of negatives when asked."""
    counts = [0] * number

    def work(at: int) -> None:
        channel = grpc.insecure_channel(target, options=_OPTIONS)
        for num_bytes in _epoch(channel, batch, k):
            counts[at] += num_bytes * k // (2 * k + 7)

    for at in range(number):
        threading.Thread(target=work, args=(at,), daemon=True).start()
    for _ in sys.stdin:
        print(sum(counts), flush=True)
    os._exit(0)


def _small(target: str, k: int, seconds: float, pause: float) -> list[float]:
    """Measure latencies of a small stream, in seconds."""
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        steps = _sample(channel, _SMALL_BATCH, k)
        for _ in range(20):
            next(steps)
        latencies = []
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            next(steps)
            latencies.append(time.perf_counter() - begin)
            time.sleep(pause)
        steps.close()
    return latencies


@contextmanager
def _process(*command: str, path: str = "") -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": path or os.environ.get("PYTHONPATH", "")}
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def _measure(
    target: str, beside_target: str, others: str, cases: Sequence[tuple[int, float]], seconds: float
) -> Iterator[tuple[int, float, Figures]]:
    """Measure small streams with some k and pauses at one server, with the load at another."""
    number, kind, batch, other_k = _OTHERS[others]
    with ExitStack() as stack:
        beside: list[subprocess.Popen[str]] = []
        if number:
            command = ["benchmarks.measured.light_client"]
            if kind == "epoch":
                command = ["benchmarks.fairness", "--epochs"]
            command += [beside_target, str(batch), str(other_k), str(number)]
            beside.append(stack.enter_context(_process("-m", *command)))
        unit = 1 if kind == "epoch" else batch * other_k  # of what the clients count
        deadline = time.monotonic() + 60
        while any(not ask(process) for process in beside):
            assert time.monotonic() < deadline, "no answers arrive"
            time.sleep(0.1)
        time.sleep(0.5 if number else 0)
        for k, pause in cases:
            before, begin = sum(map(ask, beside)), time.perf_counter()
            latencies = _small(target, k, seconds, pause)
            made = (sum(map(ask, beside)) - before) / (time.perf_counter() - begin)
            yield (
                k,
                pause,
                {
                    "p50": statistics.median(latencies),
                    "p99": sorted(latencies)[int(len(latencies) * 0.99)],
                    "negatives_per_second": made * unit,
                },
            )


def _row(
    server: str, k: int, pause: float, others: str, runs: list[Figures], apart: list[Figures],
    alone: list[Figures],
) -> Row:  # fmt: skip
    """Return medians over repetitions."""

    def median(runs: list[Figures], key: str) -> float:
        return statistics.median(run[key] for run in runs)

    p99 = median(runs, "p99")
    return {
        "server": server,
        "k": k,
        "pause_ms": f"{1e3 * pause:g}",
        "beside": others,
        "p50_ms": f"{1e3 * median(runs, 'p50'):.2f}",
        "p99_ms": f"{1e3 * p99:.2f}",
        "p99_apart_ms": f"{1e3 * median(apart, 'p99'):.2f}",
        "times_apart": f"{p99 / median(apart, 'p99'):.1f}",
        "times_alone": f"{p99 / median(alone, 'p99'):.1f}",
        "others_negatives_per_second": median(runs, "negatives_per_second"),
    }


@contextmanager
def _server(checkout: str, file: Path) -> Iterator[str]:
    """Run the server of a checkout; yields its address."""
    path = os.pathsep.join(str(Path(checkout) / part) for part in ("client", "server"))
    with _process(
        "-m", "negserve_server.cli", "serve", "--log-level", "error",
        "--listen", "127.0.0.1:0", "--dataset", f"graph={file}", path=path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]


def _graph(path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = [rng.zipf(1.3, 4 * _TRIPLES) % size for size in (_ENTITIES, _RELATIONS, _ENTITIES)]
    triples = np.unique(np.stack(columns, axis=1), axis=0)[:_TRIPLES]
    every = np.arange(_ENTITIES)
    ids = np.stack([every, every % _RELATIONS, (every + 1) % _ENTITIES], axis=1)
    np.savetxt(path, np.concatenate([triples, ids]), fmt=("%06d", "r%03d", "%06d"), delimiter="\t")


def main(servers: list[str], ks: list[int], json_path: Path | None, seconds: float, rounds: int,
         only: list[str]) -> None:  # fmt: skip
    """Measure and report."""
    rows: list[Row] = []
    with ExitStack() as stack:
        file = RESULTS / ".fairness.tsv"
        _graph(file)
        stack.callback(file.unlink)
        targets = {server: stack.enter_context(_server(server, file)) for server in servers}
        apart = stack.enter_context(_server(servers[-1], file))
        cases = [(k, pause) for k in ks for pause in (_STEP, 0.0)]
        found: dict[tuple[int, float], dict[tuple[str, str, bool], list[Figures]]] = {}
        for _ in range(rounds):
            for others in only or _OTHERS:
                for server, target in targets.items():
                    for is_apart in (False, True):
                        own = apart if is_apart else target
                        for k, pause, result in _measure(own, target, others, cases, seconds):
                            of_case = found.setdefault((k, pause), {})
                            of_case.setdefault((others, server, is_apart), []).append(result)
        for (k, pause), results in found.items():
            for (others, server, is_apart), runs in results.items():
                if is_apart:
                    continue
                figures = (
                    results[others, server, True],
                    results.get(("nobody", server, False), runs),
                )
                rows.append(_row(Path(server).name, k, pause, others, runs, *figures))
    show("fairness", rows)
    write("fairness", rows, json_path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--epochs"]:
        _read_epochs(sys.argv[2], *map(int, sys.argv[3:]))
    elif sys.argv[1:2] == ["--small"]:
        found = _small(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
        print(json.dumps(found), flush=True)
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--server", action="append", help="checkouts to measure")
        parser.add_argument("--k", type=int, action="append")
        parser.add_argument("--json", type=Path, help="file for the rows")
        parser.add_argument("--seconds", type=float, default=2.0)
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--beside-only", action="append", default=[])
        given = parser.parse_args()
        here = str(Path(__file__).parents[1])
        main(given.server or [here], given.k or [1, 16, 64], given.json, given.seconds,
             given.rounds, given.beside_only)  # fmt: skip
