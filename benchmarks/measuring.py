"""Interleaved repetitions, medians and spread, and where they are kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
REPETITIONS = 5
_MIN_SECONDS = 0.25

console = Console(width=110)


def rates(cases: Mapping[str, Callable[[], int]], title: str) -> dict[str, list[float]]:
    """Measure several systems in turn, so that a change of the machine's speed hits all alike.

    :param cases: by name, what does some work and gives the number of its negatives
    :return: negatives per second of each repetition, by name
    """
    for case in cases.values():
        case()
    results: dict[str, list[float]] = {name: [] for name in cases}
    rounds = [name for _ in range(REPETITIONS) for name in cases]
    for name in track(rounds, description=title, console=console, transient=True):
        count, begin = 0, time.perf_counter()
        while (seconds := time.perf_counter() - begin) < _MIN_SECONDS:
            count += cases[name]()
        results[name].append(count / seconds)
    return results


def row(values: Sequence[float], **facts: object) -> dict[str, object]:
    """Make a result row: the facts, the median and the spread of negatives per second."""
    return {
        **facts,
        "negatives_per_second": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "repetitions": len(values),
    }


def hardware() -> str:
    """Say what the numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def report(name: str, rows: list[dict[str, object]], json_path: Path | None = None) -> None:
    """Print the rows as a table and write them to ``results/NAME.json`` or another file."""
    columns = [key for key in rows[0] if key not in {"repetitions"}]
    table = Table(*columns, title=f"{name}: {hardware()}")
    for each in rows:
        table.add_row(*(_format(each[column]) for column in columns))
    console.print(table)
    path = json_path or RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"hardware": hardware(), "rows": rows}, indent=1) + "\n")
    console.print(f"written to {path}")


def _format(value: object) -> str:
    return f"{value / 1e6:.2f} M" if isinstance(value, float) else str(value)
