"""The engine's goals, compared with the measurements of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from benchmarks.measuring import Row, console
from benchmarks.pykeen_samplers import PYKEEN, SET_WITHOUT_GC

_OURS = "negserve"
Name = tuple[str, str, str, int]

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


def check(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Compare with the goals: goal, bound, measured, result; empty if nothing was measured."""
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


def show(rows: Sequence[Row]) -> None:
    """Print the goals and the results."""
    lines = check(rows)
    if not lines:
        console.print("goals: defined for fb15k-237, which was not measured")
        return
    table = Table(*lines[0], title="goals")
    for line in lines:
        table.add_row(*line.values())
    console.print(table)
