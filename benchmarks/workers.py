"""Negatives per second of servers with one worker and with several, taking turns.

Run as ``python -m benchmarks.workers [--workers N] [--rounds N] [--seconds S] [--json FILE]``. Each
server is on loopback, with two client processes of some connections each, which send prepared
bytes and do not decode answers. Clients use the same processors as the servers: so each row also
says how many processors the server and its clients used, how many nobody used (the rest went to
other programs), and ``server_us``, the server's processor time for a message. ``limit`` is the
ratio that several workers would have if all processors did the work of one worker and its clients,
at the same cost for a message.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.remote import written
from benchmarks.support.children import TICK, ask, busy_seconds, family
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import Row, show, write

#: k and batch size.
_CASES = ((1, 1024), (64, 128), (64, 1024))
_CLIENTS = 2
_PROCESSORS = ("server_processors", "client_processors", "unused_processors")
_CONNECTIONS = 4


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _unused_seconds() -> float:
    """Sum the time that processors had nothing to do."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / TICK


def _turn(server: subprocess.Popen[str], target: str, k: int, batch: int, seconds: float) -> Row:
    """Measure one server once."""
    with ExitStack() as stack:
        clients = []
        for _ in range(_CLIENTS):
            each = _start(
                "benchmarks.measured.light_client", target, str(batch), str(k), str(_CONNECTIONS)
            )
            stack.callback(each.wait, 30)
            stack.callback(each.kill)
            clients.append(each)
        while not all(ask(each) > 20 for each in clients):
            time.sleep(0.05)
        time.sleep(0.3)
        theirs = [each.pid for each in clients]
        pids = family(server.pid)
        before = [busy_seconds(pids), busy_seconds(theirs), _unused_seconds()]
        count, begin = sum(map(ask, clients)), time.perf_counter()
        time.sleep(seconds)
        count = sum(map(ask, clients)) - count
        elapsed = time.perf_counter() - begin
        used = busy_seconds(pids) - before[0], busy_seconds(theirs) - before[1]
        unused = _unused_seconds() - before[2]
    return {
        "negatives_per_second": count * batch * k / elapsed,
        "server_us": 1e6 * used[0] / count,
        "server_processors": used[0] / elapsed,
        "client_processors": used[1] / elapsed,
        "unused_processors": unused / elapsed,
    }


def main(num_workers: int, rounds: int, seconds: float, json_path: Path | None) -> None:
    """Measure and report."""
    rows: list[Row] = []
    name, graph = fb15k_237()
    with written(graph) as file, ExitStack() as stack:
        servers = {}
        for workers in (1, num_workers):
            server = _start(
                "negserve_server.cli", "serve", "--log-level", "error", "--workers", str(workers),
                "--listen", "127.0.0.1:0", "--dataset", f"graph={file}",
            )  # fmt: skip
            stack.callback(server.wait, 30)
            stack.callback(server.terminate)
            assert server.stdout is not None
            servers[workers] = server, server.stdout.readline().split()[-1]
        for k, batch in _CASES:
            turns: dict[int, list[Row]] = {workers: [] for workers in servers}
            for number in range(rounds):
                for workers in sorted(servers, reverse=bool(number % 2)):
                    turns[workers].append(_turn(*servers[workers], k, batch, seconds))
            medians = {
                workers: {
                    key: statistics.median(float(str(run[key])) for run in runs) for key in runs[0]
                }
                for workers, runs in turns.items()
            }
            key = "negatives_per_second"
            ratios = [
                float(str(more[key])) / float(str(one[key]))
                for one, more in zip(turns[1], turns[num_workers], strict=True)
            ]
            one_used = medians[1]["server_processors"] + medians[1]["client_processors"]
            limit = len(os.sched_getaffinity(0)) / one_used
            for workers, median in medians.items():
                rows.append(
                    {
                        "graph": name,
                        "k": k,
                        "batch": batch,
                        "workers": workers,
                        "negatives_per_second": median[key],
                        "ratio": f"{statistics.median(ratios):.2f}" if workers > 1 else "1",
                        "lowest": f"{min(ratios):.2f}" if workers > 1 else "",
                        "highest": f"{max(ratios):.2f}" if workers > 1 else "",
                        "limit": f"{limit:.2f}" if workers > 1 else "",
                        **{
                            name: f"{median[name]:.{0 if name == 'server_us' else 2}f}"
                            for name in ("server_us", *_PROCESSORS)
                        },
                    }
                )
    show("workers", rows)
    write("workers", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    main(given.workers, given.rounds, given.seconds, given.json)
