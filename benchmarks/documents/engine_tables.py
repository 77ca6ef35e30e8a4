"""Tables of what is measured in process: the engine, and how its cost grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.documents.markdown import (
    columns_of,
    goal_table,
    k_of,
    markdown,
    millions,
    nanoseconds,
    pivot,
    rounded,
    times,
)
from benchmarks.support import goals
from benchmarks.support.measuring import Row


def engine_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the engine's tables: against PyKEEN, the lower bounds and the goals."""
    rows: list[Row] = sorted(content["rows"], key=lambda row: (row["sampler"], row["system"]))
    graphs: Mapping[str, Mapping[str, float]] = content["graphs"]
    facts = [name.replace("_", " ") for name in next(iter(graphs.values()))]
    result = {
        "graphs": markdown(
            ["graph", *facts],
            [[name, *(f"{value:,}" for value in each.values())] for name, each in graphs.items()],
            1,
        ),
        "build": _build(content["build_seconds"]),
        "goals": goal_table(goals.check(rows)),
        "spread": _spread(rows),
        "order": pivot(
            content["order"],
            {"nanoseconds per position": lambda row: str(row["what"])},
            lambda row: str(row["graph"]),
            lambda row: rounded(row["ns_per_position"], 1),
        ),
    }
    for graph in graphs:
        own = [row for row in rows if row["graph"] == graph]
        systems = [row for row in own if row["system"] != "floor"]
        floors = [row for row in own if row["system"] in {"negserve", "floor"}]
        names, name = (
            columns_of("system", "sampler", "filter"),
            graph.removeprefix("synthetic like "),
        )
        result[f"engine {name}"] = pivot(systems, names, k_of, millions)
        result[f"floors {name}"] = pivot(floors, names, k_of, nanoseconds)
    return result


def _build(seconds: Mapping[str, Mapping[str, float]]) -> str:
    things = dict.fromkeys(thing for each in seconds.values() for thing in each)
    lines = [
        [thing, *(rounded(each.get(thing), 1) for each in seconds.values())] for thing in things
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
        [str(row["option"]), nanoseconds(row), times(row["ns_per_negative"], base)]
        for row in curves["option"]
    ]
    threads = [
        [
            k_of(one), millions(one), millions(two),
            times(two["negatives_per_second"], one["negatives_per_second"]),
        ]
        for one, two in zip(curves["threads"][::2], curves["threads"][1::2], strict=True)
    ]  # fmt: skip
    names = columns_of("system", "sampler", "filter")
    return {
        "curve k": pivot(curves["k"], names, k_of, nanoseconds),
        "curve batch": pivot(
            curves["batch"],
            columns_of("k", "filter"),
            lambda row: f"batch {row['batch']}",
            nanoseconds,
        ),
        "curve graph": pivot(
            curves["graph"],
            columns_of("graph", "entities", "triples"),
            lambda row: f"{k_of(row)}, {row['filter']}",
            nanoseconds,
        ),
        "curve known tails": pivot(
            curves["known tails"],
            columns_of("known tails"),
            lambda row: "one pair" if row["pairs"] == 1 else "many pairs",
            nanoseconds,
        ),
        "curve option": markdown(["option", "ns per negative", "times the first"], options, 1),
        "curve threads": markdown(["k", "one thread", "two threads", "gain"], threads, 1),
    }


def expansion_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of whole triples and columns: goals, and nanoseconds per negative."""

    def shape(row: Row) -> str:
        return f"{row['batch']} x {row['k']}"

    rows = content["rows"]
    return {
        "expansion goals": goal_table(goals.check_expansion(rows)),
        "expansion": pivot(rows, columns_of("system", "form"), shape, nanoseconds),
    }
