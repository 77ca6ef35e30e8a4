"""What metrics cost: a server with --metrics-listen and two without, taking turns.

Run as ``python -m benchmarks.metrics [--rounds N] [--workers] [--counters] [--json FILE]``. Batches
of 128 positives with 64 negatives each, by ``Sample`` (prepared frames of
:mod:`benchmarks.measured.light_client`, 4 connections) and by ``SampleEpoch``; the server with
metrics is scraped once a turn. Rows have, in terms of the first server without metrics, the median
of the ratios of all rounds with its 95 % confidence interval: of negatives a second, and of the
server's processor time per negative. The ratio of the second server without metrics shows how much
equal servers differ. In each round all are measured, in changing order. ``--counters`` only times
the counters of a message by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice, permutations
from pathlib import Path
from typing import NamedTuple

from benchmarks.support.children import ask
from benchmarks.support.measuring import Row, console, show, write
from negserve_server.metrics.prometheus_metrics import PrometheusMetrics

BATCH, K = 128, 64
_MESSAGES = 20_000
_CONNECTIONS = 4
_DATA = Path(os.environ.get("NEGSERVE_DATA", Path(__file__).parents[2].joinpath("shared", "data")))
_WARM_UP_SECONDS = 0.15
_BASE = "without"
_SERVERS = {
    _BASE: (),
    "with metrics": ("--metrics-listen", "127.0.0.1:0"),
    "without, again": (),
}


class Server(NamedTuple):
    """A running server.

    :ivar pids: its processes
    :ivar target: its address
    :ivar url: of its metrics; empty for none
    """

    pids: list[int]
    target: str
    url: str

    def seconds(self) -> float:
        """Read the processor time that it has used."""
        total = 0
        for pid in self.pids:
            total += sum(
                int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
                for task in os.listdir(f"/proc/{pid}/task")
            )
        return total / 1e9

    def scrape(self) -> None:
        """Read the metrics, if there are any."""
        if self.url:
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                answer.read()


@contextmanager
def _server(*options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "negserve_server.cli", "serve", "--listen", "127.0.0.1:0"]
    with (
        tempfile.NamedTemporaryFile("r") as log,
        open(log.name, "w", encoding="utf-8") as errors,
        subprocess.Popen(
            [*command, "--dataset", f"graph={_DATA / 'fb15k-237'}", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            target = str(process.stdout and process.stdout.readline()).split()[-1]
            found = None
            while "--metrics-listen" in options and found is None:
                found = re.search(r"metrics at (\S+)", log.read())
                time.sleep(0.05)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            pids = [process.pid, *map(int, children)]
            yield Server(pids, target, found[1] if found else "")
        finally:
            process.kill()


@contextmanager
def _client(server: Server, way: str) -> Iterator[subprocess.Popen[str]]:
    """Run what asks a server for negatives, stopped until its turn."""
    module = (
        ["benchmarks.measured.light_client"]
        if way == "Sample"
        else ["benchmarks.fairness", "--epochs"]
    )
    numbers = [str(BATCH), str(K), str(_CONNECTIONS)]
    with subprocess.Popen(
        [sys.executable, "-m", *module, server.target, *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        try:
            deadline = time.monotonic() + 60
            while not ask(client):
                assert time.monotonic() < deadline, "no answers arrive"
                time.sleep(0.05)
            client.send_signal(signal.SIGSTOP)
            yield client
        finally:
            client.kill()


def _turn(
    server: Server, client: subprocess.Popen[str], way: str, seconds: float
) -> tuple[float, float]:
    """Measure a server: negatives per second, and its processor time per negative, in ns."""
    client.send_signal(signal.SIGCONT)
    time.sleep(_WARM_UP_SECONDS)
    unit = BATCH * K if way == "Sample" else 1  # of what the clients count
    used, before, begin = server.seconds(), ask(client), time.perf_counter()
    time.sleep(seconds / 2)
    server.scrape()
    time.sleep(seconds / 2)
    made = (ask(client) - before) * unit
    elapsed, used = time.perf_counter() - begin, server.seconds() - used
    client.send_signal(signal.SIGSTOP)
    time.sleep(_WARM_UP_SECONDS)  # what was under way arrives
    return made / elapsed, used / made * 1e9


def measure_counters() -> None:
    """Print what the counters of a message of ``Sample`` take, in microseconds; the best of ten."""

    async def measure() -> float:
        metrics = PrometheusMetrics([], None, ("", ""))
        calls, draws = metrics.calls("Sample"), metrics.draws("", "basic", K, is_masked=True)
        begin = time.perf_counter()
        for _ in range(_MESSAGES):
            calls.received(700)
            record = draws.begin()
            record.begun()
            record.drawn()
            record.encoded(BATCH, 0, None)
            draws.made(record)
            calls.sent(17_000)
            draws.sent(record)
        return (time.perf_counter() - begin) / _MESSAGES * 1e6

    print(f"{min(asyncio.run(measure()) for _ in range(10)):.2f} us for each message")


def main(rounds: int, seconds: float, with_workers: bool, json_path: Path | None) -> None:
    """Measure and report."""
    rows: list[Row] = []
    for workers in (1, 2) if with_workers else (1,):
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(_server("--workers", str(workers), *options))
                for name, options in _SERVERS.items()
            }
            for way in ("Sample", "SampleEpoch"):
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
                with ExitStack() as clients, console.status(f"metrics, {way}"):
                    asking = {
                        name: clients.enter_context(_client(server, way))
                        for name, server in servers.items()
                    }
                    for order in islice(cycle(permutations(servers)), rounds):
                        for name in order:
                            found[name].append(_turn(servers[name], asking[name], way, seconds))
                for at, what in enumerate(("negatives a second", "ns of the server a negative")):
                    values = {name: [turn[at] for turn in turns] for name, turns in found.items()}
                    rows += [
                        _row(way, workers, what, name, values[name], values[_BASE])
                        for name in servers
                        if name != _BASE
                    ]
    show("metrics", rows)
    write("metrics", rows, json_path, batch=BATCH, k=K)


def _row(
    way: str, workers: int, what: str, name: str, values: list[float], base: list[float]
) -> Row:
    ratios = sorted(value / each for value, each in zip(values, base, strict=True))
    # Ranks of a confidence interval of the median, by the normal approximation of the binomial.
    reach = 1.96 * len(ratios) ** 0.5 / 2
    low = max(0, math.floor(len(ratios) / 2 - reach))
    high = min(len(ratios) - 1, math.ceil(len(ratios) / 2 + reach))
    return {
        "way": way, "workers": workers, "what": what, "server": name,
        "value": f"{statistics.median(values):.3g}", "ratio": f"{statistics.median(ratios):.3f}",
        "low": f"{ratios[low]:.3f}", "high": f"{ratios[high]:.3f}", "rounds": len(ratios),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=36)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--workers", action="store_true", help="also servers of two workers")
    parser.add_argument("--counters", action="store_true", help="measure only the counters")
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    if given.counters:
        measure_counters()
    else:
        main(given.rounds, given.seconds, given.workers, given.json)
