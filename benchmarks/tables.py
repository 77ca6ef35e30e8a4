"""The Markdown tables of ``docs/benchmarks.md``, from the rows in ``results/``.

Run as ``python -m benchmarks.tables`` to print them; with ``--write`` to insert each into the
document, between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for ``python benchmarks/tables.py``

from benchmarks import goals
from benchmarks.measuring import RESULTS, Row, machine

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_PLACE = re.compile(r"(<!-- table (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

#: Reads a column's value from a row.
Read = Callable[[Row], str]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], num_texts: int) -> str:
    """Write a table: the first ``num_texts`` columns aligned left, the others right."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in [header, *lines])
    rule = "|".join(["---"] * num_texts + ["---:"] * (len(header) - num_texts))
    return "\n".join([first, f"|{rule}|", *others])


def pivot(rows: Iterable[Row], texts: Mapping[str, Read], across: Read, value: Read) -> str:
    """Make a table with a line per combination of texts and a column per value of ``across``."""
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        columns[across(row)] = None
        line = tuple(read(row) for read in texts.values())
        lines.setdefault(line, {})[across(row)] = value(row)
    body = [[*line, *(cells.get(each, "–") for each in columns)] for line, cells in lines.items()]
    return markdown([*texts, *columns], body, len(texts))


def millions(row: Row) -> str:
    """Negatives per second, in millions."""
    return _rounded(row["negatives_per_second"], 1e6)


def nanoseconds(row: Row) -> str:
    """Nanoseconds per negative."""
    return _rounded(row["ns_per_negative"], 1)


def _rounded(value: object, unit: float) -> str:
    if not isinstance(value, float):
        return "–"
    value /= unit
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def _texts(*names: str) -> dict[str, Read]:
    return {name: lambda row, name=name: str(row[name]) for name in names}  # type: ignore[misc]


def _k(row: Row) -> str:
    return f"k = {row['k']}"


def engine_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the engine's tables: against PyKEEN, the lower bounds and the goals."""
    rows: list[Row] = sorted(content["rows"], key=lambda row: (row["sampler"], row["system"]))
    graphs: Mapping[str, Mapping[str, float]] = content["graphs"]
    facts = [name.replace("_", " ") for name in next(iter(graphs.values()))]
    lines = goals.check(rows)
    result = {
        "graphs": markdown(
            ["graph", *facts],
            [[name, *(f"{value:,}" for value in each.values())] for name, each in graphs.items()],
            1,
        ),
        "build": _build(content["build_seconds"]),
        "goals": markdown([*lines[0]], [[*line.values()] for line in lines], 1) if lines else "",
        "spread": _spread(rows),
        "order": pivot(
            content["order"],
            {"nanoseconds per position": lambda row: str(row["what"])},
            lambda row: str(row["graph"]),
            lambda row: _rounded(row["ns_per_position"], 1),
        ),
    }
    for graph in graphs:
        own = [row for row in rows if row["graph"] == graph]
        systems = [row for row in own if row["system"] != "floor"]
        floors = [row for row in own if row["system"] in {"negserve", "floor"}]
        names, name = _texts("system", "sampler", "filter"), graph.removeprefix("synthetic like ")
        result[f"engine {name}"] = pivot(systems, names, _k, millions)
        result[f"floors {name}"] = pivot(floors, names, _k, nanoseconds)
    return result


def _build(seconds: Mapping[str, Mapping[str, float]]) -> str:
    things = dict.fromkeys(thing for each in seconds.values() for thing in each)
    lines = [
        [thing, *(_rounded(each.get(thing), 1) for each in seconds.values())] for thing in things
    ]
    return markdown(["seconds to build", *seconds], lines, 1)


def _spread(rows: Sequence[dict[str, Any]]) -> str:
    measured = [row for row in rows if row["repetitions"]]
    ways = sorted(
        abs(row[end] / row["negatives_per_second"] - 1)
        for row in measured
        for end in ("lowest", "highest")
    )
    return (
        f"Of {len(measured)} rows, lowest and highest repetition are {ways[len(ways) // 2]:.0%} "
        f"from the median in the typical one, {ways[-1]:.0%} in the worst."
    )


def curve_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of the curves: nanoseconds per negative, except for threads."""
    curves: dict[str, list[Row]] = {}
    for row in content["rows"]:
        curves.setdefault(row["curve"], []).append(row)
    for row in curves["graph"]:
        facts = content["graphs"].get(row["graph"], {})
        row["entities"], row["triples"] = (
            f"{facts[name]:,}" if facts else "–" for name in ("entities", "triples")
        )
    for row in curves["known tails"]:
        row["known tails"] = f"{row['known_tails']:,}" if row["filter"] != "none" else "no filter"
    base = next(row for row in curves["option"])["ns_per_negative"]
    options = [
        [str(row["option"]), nanoseconds(row), _ratio(row["ns_per_negative"], base)]
        for row in curves["option"]
    ]
    threads = [
        [
            _k(one), millions(one), millions(two),
            _ratio(two["negatives_per_second"], one["negatives_per_second"]),
        ]
        for one, two in zip(curves["threads"][::2], curves["threads"][1::2], strict=True)
    ]  # fmt: skip
    names = _texts("system", "sampler", "filter")
    return {
        "curve k": pivot(curves["k"], names, _k, nanoseconds),
        "curve batch": pivot(
            curves["batch"], _texts("k", "filter"), lambda row: f"batch {row['batch']}", nanoseconds
        ),
        "curve graph": pivot(
            curves["graph"],
            _texts("graph", "entities", "triples"),
            lambda row: f"{_k(row)}, {row['filter']}",
            nanoseconds,
        ),
        "curve known tails": pivot(
            curves["known tails"],
            _texts("known tails"),
            lambda row: "one pair" if row["pairs"] == 1 else "many pairs",
            nanoseconds,
        ),
        "curve option": markdown(["option", "ns per negative", "times the first"], options, 1),
        "curve threads": markdown(["k", "one thread", "two threads", "gain"], threads, 1),
    }


def _ratio(value: object, base: object) -> str:
    is_known = isinstance(value, float) and isinstance(base, float)
    return f"{value / base:.2f} ×" if is_known else "–"  # type: ignore[operator]


def remote_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of what a trainer receives."""
    texts = _texts("system", "path", "filter")
    return {"remote": pivot(content["rows"], texts, lambda _: "M negatives/s", millions)}


def small_batch_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the duration of one ``sample()`` call, in milliseconds."""

    def milliseconds(row: Row) -> str:
        nanoseconds, k, batch = (float(str(row[it])) for it in ("ns_per_negative", "k", "batch"))
        return _rounded(nanoseconds * k * batch, 1e6)

    return {"small batches": pivot(content["rows"], _texts("system", "filter"), _k, milliseconds)}


def answer_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the cost of checking answers."""
    lines: list[list[str]] = []
    rows: list[Row] = content["rows"]
    for whole, checked, unchecked in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        all_of_it, decoding, without = (
            float(str(row["ns_per_negative"])) for row in (whole, checked, unchecked)
        )
        lines.append(
            [
                str(whole["path"]),
                str(whole["k"]),
                str(whole["batch"]),
                *(_rounded(value, 1) for value in (all_of_it, decoding, without)),
                f"{(decoding - without) / all_of_it:.1%}",
            ]
        )
    header = ["path", "k", "batch", "whole", "decoding", "unchecked", "checks, of the whole"]
    return {"answers": markdown(header, lines, 1)}


def evaluation_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the filters of an evaluation."""
    lines = [
        [
            str(row["system"]),
            str(row["graph"]),
            f"{int(str(row['queries'])):,}",
            f"{float(str(row['seconds'])):.3g}",
            f"{float(str(row['least_seconds'])):.3g} to {float(str(row['most_seconds'])):.3g}",
            f"{float(str(row['bytes_per_query'])):,.0f}" if "bytes_per_query" in row else "–",
        ]
        for row in content["rows"]
    ]
    header = ["system", "graph", "queries", "seconds", "lowest to highest", "bytes a query"]
    return {"evaluation": markdown(header, lines, 2)}


def load_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of many streams: their goals, rates and waits, and the cost of opening."""
    rows: list[Row] = content["rows"]

    def table(case: str, columns: Mapping[str, Read]) -> str:
        own = [row for row in rows if row["case"] == case]
        names: dict[str, Read] = {}
        if len({row["checkout"] for row in own}) > 1:
            names = _texts("checkout")
        columns = {**names, **columns}
        lines = [[read(row) for read in columns.values()] for row in own]
        return markdown([*columns], lines, len(names))

    def figure(name: str) -> Read:
        return lambda row: _rounded(row[name], 1)

    streams: dict[str, Read] = {
        "streams": lambda row: str(row["streams"]),
        "M negatives/s": millions,
        "slowest to fastest": figure("slowest_to_fastest"),
        "p50, ms": figure("p50_ms"),
        "p99, ms": figure("p99_ms"),
        "fair share, ms": figure("fair_share_ms"),
        "server, processors": figure("server_processors"),
        "client, processors": figure("client_processors"),
    }
    ranks: dict[str, Read] = {"world size": lambda row: str(row["world_size"]), **streams}
    opening = {
        "server, ms": figure("server_ms"),
        "client, ms": figure("client_ms"),
        "duration, ms": figure("ms"),
    }
    lines = goals.check_load(rows)
    return {
        "load goals": markdown([*lines[0]], [[*line.values()] for line in lines], 1),
        "load streams": table("streams", streams),
        "load ranks": table("ranks", ranks),
        "load opening": table("opening", opening),
    }


def expansion_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of whole triples and columns, in nanoseconds per negative."""

    def shape(row: Row) -> str:
        return f"{row['batch']} x {row['k']}"

    return {"expansion": pivot(content["rows"], _texts("system", "form"), shape, nanoseconds)}


MAKERS = {
    "engine": engine_tables,
    "curves": curve_tables,
    "remote": remote_tables,
    "load": load_tables,
    "small_batches": small_batch_tables,
    "answers": answer_tables,
    "evaluation": evaluation_tables,
    "expansion": expansion_tables,
}


def main(results: Path = RESULTS, document: Path | None = None) -> None:
    """Print all tables, or write those that have a place in the document."""
    tables: dict[str, str] = {}
    for name, make in MAKERS.items():
        path = results / f"{name}.json"
        if not path.exists():
            print(f"{path} is missing: run python -m benchmarks.{name}", file=sys.stderr)
            continue
        content = json.loads(path.read_text())
        tables[f"machine {name}"] = f"{machine(content)}."
        tables |= make(content)
    if document is None:
        for name, table in tables.items():
            print(f"{name}\n\n{table}\n")
        return
    text = document.read_text()
    for name in {match[2] for match in _PLACE.finditer(text)} - set(tables):
        print(f"no rows for table {name}: it is not changed", file=sys.stderr)
    document.write_text(_PLACE.sub(lambda match: _filled(match, tables), text))


def _filled(match: re.Match[str], tables: Mapping[str, str]) -> str:
    table = tables.get(match[2])
    return match[0] if table is None else f"{match[1]}\n{table}\n\n{match[3]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--write", action="store_true", help=f"insert them into {DOCUMENT.name}")
    arguments = parser.parse_args()
    main(arguments.results, DOCUMENT if arguments.write else None)
