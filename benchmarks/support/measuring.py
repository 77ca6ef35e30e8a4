"""Interleaved repetitions, medians and spread, and the results files."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

RESULTS = Path(__file__).parents[1] / "results"
REPETITIONS = 5
SECONDS_PER_REPETITION = 0.25

#: One line of a results file: facts, and measurements.
Row = dict[str, object]
#: Does some work and returns the number of its negatives.
Step = Callable[[], int]
#: Works for some seconds, at least one step; returns negatives per second.
Turn = Callable[[float], float]
#: A case: the facts of its row, and its turn, or why it can't run.
Case = tuple[Mapping[str, object], Turn | str]

#: A case with a slower step than this, in seconds, is not measured.
_MAX_STEP_SECONDS = 10.0

#: Columns of numbers that are shown as they are; others are of negatives per second.
_PLAIN = {
    "ns_per_negative", "least_ns", "most_ns", "seconds", "least_seconds", "most_seconds",
    "us_per_query", "bytes_per_query", "slowest_to_fastest", "p50_ms", "p99_ms", "fair_share_ms",
    "server_processors", "client_processors", "server_ms", "client_ms", "ms",
    "rate_ratio", "least_rate_ratio", "most_rate_ratio",
    "cost_ratio", "least_cost_ratio", "most_cost_ratio",
}  # fmt: skip

console = Console(width=140)


def repeated(step: Step) -> Turn:
    """Return a turn that repeats a step."""

    def turn(seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while True:
            count += step()
            if (elapsed := time.perf_counter() - begin) >= seconds:
                return count / elapsed

    return turn


def measure(
    cases: Sequence[Case],
    title: str,
    seconds: float = SECONDS_PER_REPETITION,
    rounds: int = REPETITIONS,
) -> list[Row]:
    """Measure several systems in turns, so that a change of the machine's speed affects all alike.

    :param seconds: minimum duration of one repetition of a case
    :param rounds: repetitions of each case
    :return: one row per case, in the same order; a case that was not measured says why
    """
    turns: dict[int, Turn] = {}
    reasons: dict[int, str] = {}
    for at, (_, turn) in enumerate(cases):
        reason = turn if isinstance(turn, str) else _why_too_slow(turn)
        if isinstance(turn, str) or reason is not None:
            reasons[at] = str(reason)
        else:
            turns[at] = turn
    results: dict[int, list[float]] = {at: [] for at in range(len(cases))}
    order = [at for _ in range(rounds) for at in turns]
    for at in track(order, description=title, console=console, transient=True):
        results[at].append(turns[at](seconds))
    for at, reason in reasons.items():
        console.print(f"not measured: {', '.join(map(str, cases[at][0].values()))}: {reason}")
    return [_row(facts, results[at], reasons.get(at)) for at, (facts, _) in enumerate(cases)]


def _why_too_slow(turn: Turn) -> str | None:
    """Run the first step, which may compile or build something; if it is slow, run another."""
    elapsed = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        turn(0)
        elapsed = time.perf_counter() - begin
        if elapsed < _MAX_STEP_SECONDS:
            return None
    return f"one batch takes {elapsed:.0f} s"


def _row(facts: Mapping[str, object], values: Sequence[float], skipped: str | None = None) -> Row:
    median = statistics.median(values) if values else None
    return {
        **facts,
        "negatives_per_second": median,
        "lowest": min(values, default=None),
        "highest": max(values, default=None),
        "ns_per_negative": None if median is None else 1e9 / median,
        "repetitions": len(values),
        **({} if skipped is None else {"skipped": skipped}),
    }


def hardware() -> str:
    """Describe the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def machine(content: Mapping[str, Any]) -> str:
    """Describe the machine and the versions of a results file."""
    versions = (f"{name} {number}" for name, number in content["versions"].items())
    return ", ".join([content["hardware"], *versions])


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows with the same facts as a table; facts that all share are in its title."""
    keys = [key for key in rows[0] if key not in {"repetitions", "skipped"}]
    same = [key for key in keys if len(rows) > 1 and len({str(row.get(key)) for row in rows}) == 1]
    columns = [key for key in keys if key not in same]
    facts = [f"{key} {rows[0][key]}" for key in same]
    table = Table(*columns, title=f"{title}: {', '.join([hardware(), *facts])}")
    for row in rows:
        table.add_row(*(_format(column, row.get(column)) for column in columns))
    console.print(table)


def write(name: str, rows: Sequence[Row], json_path: Path | None = None, **facts: object) -> None:
    """Write rows, and facts about all of them, to ``results/NAME.json`` or another file."""
    path = json_path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = {
        package: version(package)
        for package in ("numpy", "numba", "torch", "pykeen", "torch-geometric", "grpcio")
    }
    content = {
        "benchmark": name,
        "hardware": hardware(),
        "versions": versions,
        **facts,
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written to {path}")


def _format(column: str, value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value / 1e6:.3g} M" if column not in _PLAIN else f"{value:.4g}"
    return str(value)
