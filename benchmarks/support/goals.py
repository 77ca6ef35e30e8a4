"""The goals of engine, server and client, compared with the measurements of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from benchmarks.measured.pykeen_samplers import PYKEEN, SET_WITHOUT_GC
from benchmarks.support.measuring import Row, console

_OURS = "negserve"
Name = tuple[str, str, str, int]
_RATE = "negatives_per_second"

#: Compared systems, and the least ratio, if any, of negatives per second on FB15k-237.
_RATIOS: tuple[tuple[str, Name, Name, float | None], ...] = (
    (
        "exact Bernoulli, times PyKEEN's exact one (Python set), k = 64",
        (_OURS, "bernoulli", "exact", 64),
        (PYKEEN, "bernoulli", "python-set", 64),
        250,
    ),
    (
        "the same, with Python's garbage collector switched off for PyKEEN",
        (_OURS, "bernoulli", "exact", 64),
        (PYKEEN, "bernoulli", SET_WITHOUT_GC, 64),
        None,
    ),
    (
        "exact Bernoulli, times PyKEEN's with a Bloom filter, k = 64",
        (_OURS, "bernoulli", "exact", 64),
        (PYKEEN, "bernoulli", "bloom", 64),
        30,
    ),
    (
        "exact Basic, times PyKEEN's unfiltered one, k = 64",
        (_OURS, "basic", "exact", 64),
        (PYKEEN, "basic", "none", 64),
        1.5,
    ),
)
#: Of our samplers: highest ratio of unfiltered to exact; least negatives per second at k = 1.
_KINDS = ("bernoulli", "basic")
_MOST_SLOWDOWN = 3.0
_LEAST_RATE = 10e6

#: Of many streams: least rate at any number, times the best one; least rate of the slowest, times
#: the fastest; largest p99 of the wait for a message, times the fair share.
_LEAST_AGGREGATE, _LEAST_FAIRNESS, _MOST_WAIT = 0.95, 0.8, 2.0
#: Least rate of the ranks of one epoch, times that of as many independent streams.
_LEAST_RANKS = 0.8
#: Most processor time for opening a stream, of the server and of the client, in milliseconds.
_MOST_OPENING = 0.35
#: Readers of streams, as goals name them.
_READERS = {"negserve.aio": "negserve.aio", "grpcio": "bytes alone"}
#: Most time of ``sample`` of a batch of 1024, times an exchange of the bytes alone, by k.
_MOST_EXCHANGE = {64: 2.5, 1: 2.2}
#: Least rate of what works ahead for the trainer's own batches, times that of ``SampleEpoch``.
_LEAST_AHEAD = 0.9
#: Least rate of ``SampleEpoch``, times PyKEEN's Bloom filter in process.
_LEAST_DELIVERED = 24.0
#: Least rate of ``SampleEpoch``, times that of the older checkout: batch, k, path, ratio.
_LEAST_GAINS = (
    (1024, 64, "SampleEpoch", 1.6),
    (1024, 64, "SampleEpoch, compact", 1.4),
    (128, 64, "SampleEpoch", 2.0),
    (1024, 1, "SampleEpoch", 2.0),
)
#: Most time of the expansion to int64 triples, times filling an array of their size.
_MOST_EXPANSION = 4.0
#: Most processor time of a trainer at k = 1, times PyKEEN's unfiltered sampler.
_MOST_OF_UNFILTERED = 1 / 3
#: The side of what bounds a layer.
FLOOR = "floor"
#: Who trains.
PYKEEN_LOOP, PLAIN_LOOP = "PyKEEN's loop", "plain loop"
#: Client and server of the older checkout that a benchmark compares with.
BASE = "negserve, base"
#: A client of this checkout in a process of its own, as the older one has.
TRAINER = "negserve, trainer"
#: Least processor time of the older server for an exchange of ``sample``, times this one's.
_LEAST_SERVER_GAIN = 1.8
#: The system that exchanges bytes alone.
GRPCIO = "grpcio, opaque bytes"
#: Who opens streams where neither side is ours.
PLAIN = "grpcio, both sides"


def check(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the engine's goals: goal, bound, measured, result; empty without rows of it."""
    rates: dict[Name, float] = {}
    for row in rows:
        rate = row["negatives_per_second"]
        if str(row["graph"]).endswith("fb15k-237") and isinstance(rate, float):
            name = (str(row["system"]), str(row["sampler"]), str(row["filter"]), row["k"])
            rates[name] = rate  # type: ignore[index]
    lines: list[Mapping[str, str]] = []

    def compare(goal: str, bound: str, measured: str, is_met: bool | None) -> None:
        result = {True: "met", False: "missed", None: "–"}[is_met]
        lines.append({"goal": goal, "bound": bound, "measured": measured, "result": result})

    for goal, ours, theirs, least in _RATIOS:
        if ours in rates and theirs in rates:
            ratio = rates[ours] / rates[theirs]
            bound, is_met = "none", None
            if least is not None:
                bound, is_met = f"≥ {least:g} ×", ratio >= least
            compare(goal, bound, f"{ratio:.3g} ×", is_met)
    for kind in _KINDS:
        free, exact = ((_OURS, kind, mode, 64) for mode in ("none", "exact"))
        if free in rates and exact in rates:
            ratio = rates[free] / rates[exact]
            goal = f"exact {kind.capitalize()}, slower than our unfiltered one by, k = 64"
            compare(goal, f"≤ {_MOST_SLOWDOWN:g} ×", f"{ratio:.3g} ×", ratio <= _MOST_SLOWDOWN)
    for kind in _KINDS:
        if (one := (_OURS, kind, "exact", 1)) in rates:
            goal = f"exact {kind.capitalize()}, negatives per second, k = 1"
            rate = rates[one]
            bound = f"≥ {_LEAST_RATE / 1e6:g} M/s"
            compare(goal, bound, f"{rate / 1e6:.3g} M/s", rate >= _LEAST_RATE)
    return lines


def check_load(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals of many streams: goal, bound, measured, result.

    :param rows: of :mod:`benchmarks.load`; those of another checkout are left out
    """
    own = [row for row in rows if row["checkout"] != "base"]
    goals: list[tuple[str, float, str, float, str]] = []
    for reader, shown in _READERS.items():
        streams = [row for row in own if row["case"] == "streams" and row["reader"] == reader]
        rates = [_number(row, _RATE) for row in streams]
        fairness = [_number(row, "slowest_to_fastest") for row in streams]
        waits = [_number(row, "p99_ms") / _number(row, "fair_share_ms") for row in streams]
        what = "batch" if reader == "negserve.aio" else "message"
        goals += [
            (f"{shown}: rate at any number of streams, times the best",
             min(rates) / max(rates), "≥", _LEAST_AGGREGATE, "×"),
            (f"{shown}: slowest stream, times the fastest, at any number",
             min(fairness), "≥", _LEAST_FAIRNESS, "×"),
            (f"{shown}: p99 of the wait for a {what}, times the fair share, at any number",
             max(waits), "≤", _MOST_WAIT, "×"),
        ]  # fmt: skip
    ranks = {
        row["world_size"] == 1: _number(row, _RATE)
        for row in own
        if row["case"] == "ranks" and row["streams"] != 1
    }
    opening = {str(row["reader"]): row for row in own if row["case"] == "opening"}
    goals += [
        ("ranks of one epoch, times as many independent streams", ranks[False] / ranks[True],
         "≥", _LEAST_RANKS, "×"),
        ("opening a stream, processor time of the server",
         _number(opening["grpcio"], "server_ms"), "≤", _MOST_OPENING, "ms"),
        ("opening a stream, processor time of the client",
         _number(opening["negserve"], "client_ms"), "≤", _MOST_OPENING, "ms"),
    ]  # fmt: skip
    return [_line(*goal) for goal in goals]


def check_exchange(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals of ``sample`` and ``stream``: goal, bound, measured, result.

    :param rows: of :mod:`benchmarks.exchange`
    """
    own = {(str(row["system"]), row["batch"], row["k"]): row for row in rows}
    goals: list[tuple[str, float, str, float, str]] = []
    for k, most in _MOST_EXCHANGE.items():
        plain = _number(own[GRPCIO, 1024, k], _RATE)
        goal = f"sample, batch 1024, k = {k}: duration, times an exchange of the bytes alone"
        ratio = plain / _number(own[f"{_OURS}, sample", 1024, k], _RATE)
        goals.append((goal, ratio, "≤", most, "×"))
    epoch = _number(own[f"{_OURS}, SampleEpoch", 1024, 64], _RATE)
    for system in ("sample of 32 batches", "stream"):
        ratio = _number(own[f"{_OURS}, {system}", 1024, 64], _RATE) / epoch
        goals.append((f"{system}: rate, times SampleEpoch", ratio, "≥", _LEAST_AHEAD, "×"))
    for k in _MOST_EXCHANGE:
        names = [(f"{who}, sample", 1024, k) for who in (BASE, TRAINER)]
        if all(name in own for name in names):
            theirs, ours = (_number(own[name], "server_ms") for name in names)
            goal = f"sample, batch 1024, k = {k}: processor time of base's server, times this one's"
            goals.append((goal, theirs / ours, "≥", _LEAST_SERVER_GAIN, "×"))
    return [_line(*goal) for goal in goals]


def check_remote(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals of ``SampleEpoch``: goal, bound, measured, result.

    :param rows: of :mod:`benchmarks.remote`; there is no goal for what has no rate
    """
    rates: dict[tuple[object, ...], float] = {}
    for row in rows:
        if isinstance(rate := row[_RATE], float):
            rates[tuple(row[name] for name in ("system", "path", "filter", "batch", "k"))] = rate
    lines: list[Mapping[str, str]] = []

    def compare(goal: str, ours: float | None, theirs: float | None, least: float) -> None:
        if ours is not None and theirs is not None:
            lines.append(_line(goal, ours / theirs, "≥", least, "×"))

    compare(
        "SampleEpoch as int64 triples, times PyKEEN's Bloom filter in process",
        rates.get((_OURS, "SampleEpoch", "exact", 1024, 64)),
        rates.get((PYKEEN, "in process", "bloom", 1024, 64)),
        _LEAST_DELIVERED,
    )
    for batch, k, path, least in _LEAST_GAINS:
        compare(
            f"{path}, batch {batch}, k = {k}, times base",
            rates.get((_OURS, path, "exact", batch, k)),
            rates.get((BASE, path, "exact", batch, k)),
            least,
        )
    return lines


def check_layers(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals of a trainer's processor time: goal, bound, measured, result.

    :param rows: of :mod:`benchmarks.layers`; there is no goal for what was not measured
    """
    ns = {
        (row["side"], row["layer"], row["batch"], row["k"]): value
        for row in rows
        if isinstance(value := row["ns_per_negative"], float)
    }
    lines: list[Mapping[str, str]] = []
    for batch in (1024, 128):
        ours = ns.get(("client", "+ expand", batch, 64))
        fill = ns.get((FLOOR, "filling the array", batch, 64))
        if ours is not None and fill is not None:
            goal = f"from bytes to int64 triples, batch {batch}, k = 64, times filling the array"
            lines.append(_line(goal, ours / fill, "≤", _MOST_EXPANSION, "×"))
    unfiltered = ns.get((PYKEEN, "unfiltered", 1024, 1))
    for layer, shown in (
        ("+ expand", "from bytes to int64 triples"),
        ("whole client", "whole client"),
    ):
        ours = ns.get(("client", layer, 1024, 1))
        if ours is not None and unfiltered is not None:
            goal = f"{shown}, batch 1024, k = 1, times PyKEEN's unfiltered Bernoulli"
            lines.append(_line(goal, ours / unfiltered, "≤", _MOST_OF_UNFILTERED, "×"))
    return lines


def check_training(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals of an epoch of training: goal, bound, measured, result.

    An epoch with a sampler of ours may take as long as with PyKEEN's unfiltered one, and longer by
    the noise: half the difference of the highest and the lowest repetition, of the side that
    differs more.

    :param rows: of :mod:`benchmarks.training`
    """
    lines = []
    for ours in rows:
        if ours["system"] != _OURS:
            continue
        for theirs in rows:
            named = theirs["system"], theirs["filter"], theirs["loop"], theirs["k"]
            if named == (PYKEEN, "none", ours["loop"], ours["k"]):
                base = _number(theirs, "seconds")
                noise = max(_half_spread(ours), _half_spread(theirs))
                goal = (
                    f"epoch, {ours['loop']}, k = {ours['k']}, {ours['path']}: duration, times "
                    f"PyKEEN's unfiltered sampler (noise: {100 * noise:.2g} %)"
                )
                lines.append(_line(goal, _number(ours, "seconds") / base, "≤", 1 + noise, "×"))
    return lines


def _half_spread(row: Row) -> float:
    least, most = _number(row, "least_seconds"), _number(row, "most_seconds")
    return (most - least) / 2 / _number(row, "seconds")


def check_expansion(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals of whole triples: goal, bound, measured, result.

    :param rows: of :mod:`benchmarks.expansion`
    """
    ns = {
        str(row["system"]): _number(row, "ns_per_negative")
        for row in rows
        if (row["form"], row["batch"], row["k"]) == ("triples", 1024, 64)
    }
    fill = ns["filling the array"]
    return [
        _line(
            f"int64 triples {way}, times filling the array",
            ns[way] / fill,
            "≤",
            _MOST_EXPANSION,
            "×",
        )
        for way in ("with numba", "without numba")
    ]


def _line(goal: str, value: float, sign: str, bound: float, unit: str) -> Mapping[str, str]:
    is_met = value >= bound if sign == "≥" else value <= bound
    percent = 100 * abs(1 - value / bound)
    return {
        "goal": goal,
        "bound": f"{sign} {bound:.3g} {unit}",
        "measured": f"{value:.3g} {unit}",
        "result": "met" if is_met else f"missed by {percent:.{0 if percent >= 10 else 1}f} %",
    }


def _number(row: Row, name: str) -> float:
    return float(str(row[name]))


def show(lines: Sequence[Mapping[str, str]]) -> None:
    """Print the goals and the results."""
    if not lines:
        console.print("goals: defined for fb15k-237, which was not measured")
        return
    table = Table(*lines[0], title="goals")
    for line in lines:
        table.add_row(*line.values())
    console.print(table)
