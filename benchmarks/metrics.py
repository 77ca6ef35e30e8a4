"""What metrics cost: a server with --metrics-listen and one without, taking turns.

Run as ``python -m benchmarks.metrics [--rounds N] [--workers] [--equal] [--counters]``. Batches of
128 positives with 64 negatives each, by ``Sample`` (prepared frames of
:mod:`benchmarks.measured.light_client`, 4 connections) and by ``SampleEpoch``; the server with
metrics is scraped once a turn. Prints, with metrics in terms of without, the median of the ratios
of all rounds with the lowest and highest: of negatives a second, and of the server's processor time
per negative. In each round both are measured, in alternating order.
"""

from __future__ import annotations

import argparse
import asyncio
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
from pathlib import Path
from typing import NamedTuple

from benchmarks.support.children import ask
from negserve_server.metrics.prometheus_metrics import PrometheusMetrics

BATCH, K = 128, 64
_MESSAGES = 20_000
_CONNECTIONS = 4
_DATA = Path(os.environ.get("NEGSERVE_DATA", Path(__file__).parents[2].joinpath("shared", "data")))
_WARM_UP_SECONDS = 0.15


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


def main(rounds: int, seconds: float, with_workers: bool, are_equal: bool) -> None:
    """Measure and print."""
    print(f"{'':42} {'without':>10} {'with':>10} {'median':>8} {'lowest':>8} {'highest':>8}")
    for options in ((), ("--workers", "2")) if with_workers else ((),):
        with ExitStack() as stack:
            servers = [
                stack.enter_context(_server(*given, *options))
                for given in ((), () if are_equal else ("--metrics-listen", "127.0.0.1:0"))
            ]
            for way in ("Sample", "SampleEpoch"):
                figures: list[list[tuple[float, float]]] = []
                with ExitStack() as clients:
                    asking = [clients.enter_context(_client(each, way)) for each in servers]
                    for number in range(rounds):
                        order = (0, 1) if number % 2 else (1, 0)
                        found = {at: _turn(servers[at], asking[at], way, seconds) for at in order}
                        figures.append([found[0], found[1]])
                name = " ".join((way, *options))
                for at, what in enumerate(("M negatives/s", "ns/negative")):
                    unit = 1e6 if at == 0 else 1.0
                    without, with_metrics = (
                        [figure[which][at] / unit for figure in figures] for which in (0, 1)
                    )
                    ratios = [b / a for a, b in zip(without, with_metrics, strict=True)]
                    print(
                        f"{name + ', ' + what:42} {statistics.median(without):10.3f} "
                        f"{statistics.median(with_metrics):10.3f} "
                        f"{statistics.median(ratios):8.3f} {min(ratios):8.3f} {max(ratios):8.3f}",
                        flush=True,
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--workers", action="store_true", help="also servers of two workers")
    parser.add_argument("--equal", action="store_true", help="no server has metrics")
    parser.add_argument("--counters", action="store_true", help="measure only the counters")
    given = parser.parse_args()
    if given.counters:
        measure_counters()
    else:
        main(given.rounds, given.seconds, given.workers, given.equal)
