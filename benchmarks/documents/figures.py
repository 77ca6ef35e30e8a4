"""Figures of results files, and sentences that are made of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.documents.markdown import NOT_MEASURED, rounded
from benchmarks.support.measuring import Row

OURS, GRAPH = "negserve", "fb15k-237"
_COLUMNS = 120


class Results:
    """Figures of all results files, found by the facts of their rows.

    :param contents: of the files, by name
    """

    def __init__(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        self.contents = contents

    def rows(self, file: str, **facts: object) -> list[Row]:
        """Return the rows that have these facts."""
        rows: list[Row] = self.contents.get(file, {}).get("rows", [])
        return [row for row in rows if facts.items() <= row.items()]

    def value(self, file: str, key: str, **facts: object) -> float | None:
        """Return a figure of the only row with these facts; None if there is none."""
        values = [row.get(key) for row in self.rows(file, **facts)]
        return values[0] if len(values) == 1 and isinstance(values[0], float) else None

    def rate(self, file: str, **facts: object) -> float | None:
        """Return the negatives per second of a row."""
        return self.value(file, "negatives_per_second", **facts)

    def engine(self, system: str, sampler: str, mode: str, k: int, graph: str) -> float | None:
        """Return the negatives per second of a row of the engine."""
        facts = {"system": system, "sampler": sampler, "filter": mode, "k": k, "graph": graph}
        return self.rate("engine", **facts)

    def graphs(self, file: str) -> Mapping[str, Mapping[str, float]]:
        """Return the facts of the graphs of a file."""
        found: Mapping[str, Mapping[str, float]] = self.contents.get(file, {}).get("graphs", {})
        return found


def say(form: str, **values: float | None) -> str:
    """Fill in a sentence with figures; nothing if one is missing."""
    if None in values.values():
        return ""
    return form.format(**{name: rounded(value, 1) for name, value in values.items()})


def over(value: float | None, base: float | None) -> float | None:
    """Divide figures; None if one is missing."""
    return None if value is None or base is None else value / base


def paragraph(*sentences: str) -> str:
    """Join sentences, and break the lines; say so if nothing was measured."""
    text = " ".join(filter(None, sentences)) or NOT_MEASURED
    return textwrap.fill(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def listed(values: Sequence[object]) -> str:
    """Enumerate values."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


def missed(lines: Sequence[Mapping[str, str]]) -> str:
    """Say which goals are missed, and by how much.

    :param lines: of :mod:`benchmarks.support.goals`
    """
    found = [
        f"{line['goal']}, by {line['result'].removeprefix('missed by ')}"
        for line in lines
        if line["result"].startswith("missed")
    ]
    if lines and not found:
        return paragraph("The last run reached all of these goals.")
    return paragraph(f"Missed: {'; '.join(found)}." if found else "")
