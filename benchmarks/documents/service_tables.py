"""Tables of what is measured over a server, or of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.documents.markdown import (
    NOT_MEASURED,
    Read,
    columns_of,
    goal_table,
    k_of,
    markdown,
    millions,
    nanoseconds,
    pivot,
    rounded,
    size_of,
)
from benchmarks.support import goals
from benchmarks.support.measuring import Row


def remote_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of what a trainer receives: goals, and rates."""
    texts = columns_of("system", "path", "filter")
    return {
        "remote goals": goal_table(goals.check_remote(content["rows"])),
        "remote": pivot(content["rows"], texts, size_of, millions),
    }


def exchange_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of calls beside an exchange of as many bytes: goals, durations, rates."""
    rows: list[Row] = content["rows"]

    def per_batch(row: Row, ns: object) -> str:
        return rounded(ns, 1e6 / (int(str(row["k"])) * int(str(row["batch"]))))

    def of_rate(row: Row, rate: str) -> str:
        return per_batch(row, 1e9 / float(str(row[rate])))

    columns: dict[str, Read] = {
        "system": lambda row: str(row["system"]),
        "batch": lambda row: str(row["batch"]),
        "k": lambda row: str(row["k"]),
        "ms a batch": lambda row: per_batch(row, row["ns_per_negative"]),
        "lowest": lambda row: of_rate(row, "highest"),
        "highest": lambda row: of_rate(row, "lowest"),
        "M negatives/s": millions,
        "server, ms a batch": lambda row: rounded(row.get("server_ms"), 1),
    }
    lines = [[read(row) for read in columns.values()] for row in rows]
    return {
        "exchange goals": goal_table(goals.check_exchange(rows)),
        "exchange": markdown([*columns], lines, 1),
    }


def small_batch_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the duration of one ``sample()`` call, in milliseconds."""

    def milliseconds(row: Row) -> str:
        return rounded(row["ns_per_negative"], 1e6 / (int(str(row["k"])) * int(str(row["batch"]))))

    return {
        "small batches": pivot(content["rows"], columns_of("system", "filter"), k_of, milliseconds)
    }


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
                *(rounded(value, 1) for value in (all_of_it, decoding, without)),
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
            names = columns_of("checkout")
        columns = {**names, **columns}
        lines = [[read(row) for read in columns.values()] for row in own]
        return markdown([*columns], lines, len(names))

    def figure(name: str) -> Read:
        return lambda row: rounded(row[name], 1)

    streams: dict[str, Read] = {
        "client": lambda row: str(row["reader"]),
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
    opening: dict[str, Read] = {
        "client": lambda row: str(row["reader"]),
        "server, ms": figure("server_ms"),
        "client, ms": figure("client_ms"),
        "duration, ms": figure("ms"),
    }
    return {
        "load goals": goal_table(goals.check_load(rows)),
        "load streams": table("streams", streams),
        "load ranks": table("ranks", ranks),
        "load opening": table("opening", opening),
    }


def layer_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of the processor time of each layer, by size, and of their goals."""

    def spread(row: Row) -> str:
        least, most = (rounded(row[name], 1) for name in ("least_ns", "most_ns"))
        return f"{nanoseconds(row)} ({least} to {most})"

    rows: list[Row] = content["rows"]
    texts: dict[str, Read] = {
        "side": lambda row: str(row["side"]),
        "layer, with those before it": lambda row: str(row["layer"]),
    }
    return {
        "layers": pivot(rows, texts, size_of, spread),
        "layer goals": goal_table(goals.check_layers(rows)),
    }


def epoch_message_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the servers of two checkouts: rates, processor time, and their ratios."""

    def ratio(row: Row, what: str) -> str:
        median, least, most = (
            rounded(row[f"{name}{what}_ratio"], 1) for name in ("", "least_", "most_")
        )
        return f"{median} ({least} to {most})"

    columns: dict[str, Read] = {
        **columns_of("checkout", "batch", "k", "world_size", "streams"),
        "M negatives/s": millions,
        "times base": lambda row: ratio(row, "rate"),
        "server, ns": nanoseconds,
        "times base's": lambda row: ratio(row, "cost"),
    }
    rows: list[Row] = content["rows"]
    lines = [[read(row) for read in columns.values()] for row in rows]
    return {"epoch messages": markdown([*columns], lines, 1) if lines else NOT_MEASURED}


def training_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of the duration of an epoch of training, by k, and of their goals."""

    def spread(row: Row) -> str:
        median, least, most = (
            rounded(row[name], 1) for name in ("seconds", "least_seconds", "most_seconds")
        )
        return f"{median} ({least} to {most})"

    rows: list[Row] = content["rows"]
    return {
        "training": pivot(rows, columns_of("loop", "system", "path", "filter"), k_of, spread),
        "training goals": goal_table(goals.check_training(rows)),
    }


def fairness_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of a small stream beside others: one for each pause between requests."""
    header = [
        "k", "beside", "server", "p50, ms", "p99, ms", "p99, times that alone", "p99 apart, ms",
        "others, M negatives/s",
    ]  # fmt: skip
    rows: list[Row] = content["rows"]
    names = {"base": "before", "main": "since"}
    result = {}
    for pause, name in (("5", "fairness pause"), ("0", "fairness busy")):
        lines = [
            [
                str(row["k"]),
                str(row["beside"]),
                names.get(str(row["server"]), str(row["server"])),
                *(str(row[key]) for key in ("p50_ms", "p99_ms", "times_alone", "p99_apart_ms")),
                rounded(row["others_negatives_per_second"], 1e6),
            ]
            for row in rows
            if row["pause_ms"] == pause
        ]
        result[name] = markdown(header, lines, 3)
    return result


#: Lines of the table of sizes: names, keys of a row, and how their values are written.
_SIZES = (
    ("triples", "triples", "{:,}"),
    ("filter index, bytes a triple", "index_bytes_per_triple", "{:.1f}"),
    ("triples themselves, bytes a triple", "columns_bytes_per_triple", "{:.1f}"),
    ("the whole snapshot with labels, bytes a triple", "all_bytes_per_triple", "{:.1f}"),
    ("build from TSV, processor seconds", "build_cpu_seconds", "{:.1f}"),
    ("times polars, which only reads the file", "build_over_polars", "{:.1f}"),
    ("peak of memory of the build, GiB", "build_peak_gib", "{:.2f}"),
    ("start of a server until it listens, s", "seconds_to_serving", "{:.1f}"),
    ("resident, bytes a triple, k = 64", "resident_k64", "{:.0f}"),
    ("resident, bytes a triple, k = 1", "resident_k1", "{:.0f}"),
    ("M negatives/s, k = 64", "million_per_second_k64", "{:.0f}"),
    ("M negatives/s, k = 1", "million_per_second_k1", "{:.1f}"),
)


def scale_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of sizes, with a column for each graph."""
    rows: list[Row] = content["rows"]
    lines = [
        [name, *(form.format(row[key]) if key in row else "–" for row in rows)]
        for name, key, form in _SIZES
    ]
    return {"scale": markdown(["", *(str(row["graph"]) for row in rows)], lines, 1)}


def worker_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of servers with one worker and with several."""
    lines = [
        [
            str(row["k"]),
            str(row["batch"]),
            str(row["workers"]),
            millions(row),
            f"{row['ratio']} ({row['lowest']} to {row['highest']})" if row["lowest"] else "",
            str(row.get("limit", "")),
            *(str(row[f"{who}_processors"]) for who in ("server", "client", "unused")),
            str(row["server_us"]),
        ]
        for row in content["rows"]
    ]
    header = [
        "k", "batch", "workers", "M negatives/s", "times one worker (lowest to highest)",
        "at most, with these processors", "server, processors", "clients, processors",
        "unused processors",
        "µs of the server a message",
    ]  # fmt: skip
    return {"workers": markdown(header, lines, 0)}


def metrics_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of what metrics cost."""
    lines = [
        [
            f"`{row['way']}`",
            str(row["workers"]),
            row["what"],
            row["server"],
            row["ratio"],
            f"{row['low']} to {row['high']}",
        ]
        for row in content["rows"]
    ]
    header = ["call", "workers", "figure", "server", "times one without", "95 % interval"]
    return {"metrics": markdown(header, lines, 4)}
