"""The charts of ``docs/charts``, from the rows in ``results/``.

Run as ``python -m benchmarks.charts`` to list them; with ``--write`` to write each to
``docs/charts/NAME.svg``. The extra ``plot`` has what it needs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.documents.drawing import (
    BLUE,
    GREEN,
    GRID,
    INK,
    PURPLE,
    VERMILLION,
    Chart,
    Series,
    logarithmic,
    look,
    ticks_at,
)
from benchmarks.measured.other_samplers import NUMPY, PYG, STRICT
from benchmarks.measured.pykeen_samplers import PYKEEN
from benchmarks.support.measuring import RESULTS, Row, machine

FOLDER = Path(__file__).parents[1] / "docs" / "charts"

#: System, sampler and filter of a series. Exact filters have filled markers.
_SYSTEMS: Mapping[tuple[str, str, str], Series] = {
    ("negserve", "bernoulli", "none"): Series("negserve, no filter", BLUE, ":", "o", False),
    ("negserve", "bernoulli", "exact"): Series("negserve, exact filter", BLUE),
    (NUMPY, "basic", "none"): Series("NumPy, random integers", INK, ":", "v", False),
    (PYG, "pairs", "any relation"): Series("torch_geometric, pairs", GREEN, "--", "D", False),
    (STRICT, "basic", "exact"): Series("strict, as ULTRA's (exact)", PURPLE, "-", "P"),
    (PYKEEN, "bernoulli", "none"): Series(f"{PYKEEN}, no filter", VERMILLION, ":", "s", False),
    (PYKEEN, "bernoulli", "bloom"): Series(f"{PYKEEN}, Bloom filter", VERMILLION, "--", "^", False),
    (PYKEEN, "bernoulli", "python-set"): Series(
        f"{PYKEEN}, Python set (exact)", VERMILLION, "-", "s"
    ),
}


def _points(
    rows: Sequence[Row], x: str, y: str, y_unit: float = 1, x_unit: float = 1
) -> list[tuple[float, float]]:
    """Read the points of a series from rows that have them."""
    return [
        (float(str(row[x])) / x_unit, float(str(row[y])) / y_unit)
        for row in rows
        if isinstance(row.get(y), float)
    ]  # fmt: skip


def rate_chart(content: Mapping[str, Any]) -> Chart:
    """Draw the rate of each system by k, a panel for each graph."""
    rows: list[Row] = content["rows"]
    graphs = [*content["graphs"]]
    titles = [f"{name}, {facts['triples']:,} triples" for name, facts in content["graphs"].items()]
    chart = Chart(
        "Negatives per second by k, one thread, batch 1024, Bernoulli", machine(content), titles,
        height=4.9, share_y=True,
    )  # fmt: skip
    for graph, panel in zip(graphs, chart.panels, strict=True):
        for (system, sampler, mode), series in _SYSTEMS.items():
            names = (system, sampler, mode, graph)
            own = [
                row for row in rows
                if (row["system"], row["sampler"], row["filter"], row["graph"]) == names
            ]  # fmt: skip
            series.draw(panel, _points(own, "k", "negatives_per_second", 1e6))
        ticks_at(panel, sorted({int(str(row["k"])) for row in rows}))
        logarithmic(panel.yaxis, " M")
        panel.set_xlabel("k, negatives per positive")
    chart.panels[0].set_ylabel("negatives per second")
    chart.legend(3)
    return chart


def layers_chart(content: Mapping[str, Any]) -> Chart:
    """Draw the processor time of each layer; what it adds to those before it is coloured."""
    rows: list[Row] = [
        row for row in content["rows"]
        if row["side"] in {"server", "client"} and (row["batch"], row["k"]) == (1024, 64)
    ]  # fmt: skip
    sides = [*dict.fromkeys(str(row["side"]) for row in rows)]
    first = rows[0]
    chart = Chart(
        "Processor time by layer, SampleEpoch, Bernoulli, exact filter, "
        f"batch {first['batch']}, k = {first['k']}",
        machine(content), [f"{side} (coloured: what a layer adds)" for side in sides], height=3.1,
    )  # fmt: skip
    highest = max(float(str(row["most_ns"])) for row in rows)
    for side, colour, panel in zip(sides, (BLUE, VERMILLION), chart.panels, strict=True):
        own = [row for row in rows if row["side"] == side]
        before = 0.0
        for place, row in enumerate(own):
            value, most = float(str(row["ns_per_negative"])), float(str(row["most_ns"]))
            panel.barh(place, min(before, value), color=GRID, height=0.62)
            panel.barh(place, max(0, value - before), left=before, color=colour, height=0.62)
            panel.plot([float(str(row["least_ns"])), most], [place, place], color=INK, linewidth=1)
            text = f"{value:.3g}"
            panel.annotate(
                text, (max(value, most), place), xytext=(4, 0), textcoords="offset points",
                va="center",
            )  # fmt: skip
            before = value
        panel.set_yticks(range(len(own)), [str(row["layer"]) for row in own])
        panel.invert_yaxis()
        panel.set_xlim(0, 1.2 * highest)
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("ns of processor time per negative")
    return chart


def streams_chart(content: Mapping[str, Any]) -> Chart:
    """Draw the rate of all streams together, and the waits for a batch, by their number."""
    rows: list[Row] = [
        row for row in content["rows"] if row["case"] == "streams" and row["checkout"] != "base"
    ]
    alone = [row for row in rows if row["reader"] == "grpcio"]
    rows = [row for row in rows if row["reader"] != "grpcio"]
    chart = Chart(
        "SampleEpoch by the number of streams, int64 triples, "
        f"batch {rows[0]['batch']}, k = {rows[0]['k']}",
        machine(content), ["all streams together", "from one batch of a stream to the next"],
        height=3.6,
    )  # fmt: skip
    rate, wait = chart.panels
    for shown, series in (
        (rows, Series("negserve.aio", BLUE)),
        (alone, Series("bytes alone", INK, ":", "o", False)),
    ):
        series.draw(rate, _points(shown, "streams", "negatives_per_second", 1e6))
    rate.set_ylabel("millions of negatives per second")
    rate.set_ylim(bottom=0)
    rate.legend()
    for key, series in (
        ("p99_ms", Series("99th percentile", VERMILLION, "-", "s")),
        ("p50_ms", Series("median", GREEN, "-", "^")),
        ("fair_share_ms", Series("fair share", INK, ":", "o", False)),
    ):
        series.draw(wait, _points(rows, "streams", key))
    logarithmic(wait.yaxis)
    wait.set_ylabel("ms")
    wait.legend()
    for panel in chart.panels:
        ticks_at(panel, [int(str(row["streams"])) for row in rows])
        panel.set_xlabel("streams")
    return chart


def scale_chart(content: Mapping[str, Any]) -> Chart:
    """Draw size, build and rate by the number of triples."""
    rows: list[Row] = content["rows"]
    chart = Chart(
        "Growth with the graph, Bernoulli, exact filter", machine(content),
        ["size", "build from text", "drawing, one thread"], height=3.9,
    )  # fmt: skip
    size, build, rate = chart.panels
    for panel, key, series in (
        (size, "resident_k64", Series("resident, k = 64", INK, ":", "v")),
        (size, "all_bytes_per_triple", Series("snapshot", VERMILLION, "--", "s")),
        (size, "index_bytes_per_triple", Series("filter index", BLUE)),
        (size, "columns_bytes_per_triple", Series("triples", GREEN, "-", "^")),
        (build, "build_cpu_seconds", Series("build", BLUE)),
        (rate, "million_per_second_k64", Series("k = 64", BLUE)),
        (rate, "million_per_second_k1", Series("k = 1", VERMILLION, "-", "s")),
    ):
        series.draw(panel, _points(rows, "triples", key, x_unit=1e6))
    size.set_ylabel("bytes per triple")
    build.set_ylabel("processor seconds")
    logarithmic(build.yaxis, steps=(1, 2, 5))
    rate.set_ylabel("millions of negatives per second")
    for panel in chart.panels:
        logarithmic(panel.xaxis, " M")
        panel.set_xlabel("triples")
        panel.margins(x=0.12)
    for panel, room in ((size, 1.75), (rate, 1.4)):
        panel.set_ylim(0, room * panel.dataLim.ymax)  # the legend is above the lines
        panel.legend(loc="upper right")
    return chart


#: What a results file is drawn as: the chart's name, and what draws it.
MAKERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Chart]]] = {
    "engine": ("rate", rate_chart),
    "layers": ("layers", layers_chart),
    "load": ("streams", streams_chart),
    "scale": ("scale", scale_chart),
}


def main(results: Path = RESULTS, folder: Path | None = None) -> None:
    """List the charts, or write them to a folder."""
    for name, (chart, make) in MAKERS.items():
        path = results / f"{name}.json"
        if not path.exists():
            print(f"{path} is missing: run python -m benchmarks.{name}", file=sys.stderr)
            continue
        if folder is None:
            print(f"{chart}, from {path.name}")
            continue
        with look():
            svg = make(json.loads(path.read_text())).svg()
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath(f"{chart}.svg").write_text(svg)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--write", action="store_true", help=f"write them to docs/{FOLDER.name}")
    arguments = parser.parse_args()
    main(arguments.results, FOLDER if arguments.write else None)
