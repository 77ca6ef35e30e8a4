"""Tables in Markdown, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.support.measuring import Row

NOT_MEASURED = "The last run measured none of it."
#: Reads a column's value from a row.
Read = Callable[[Row], str]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], num_texts: int) -> str:
    """Write a table: the first ``num_texts`` columns aligned left, the others right."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in [header, *lines])
    rule = "|".join(["---"] * num_texts + ["---:"] * (len(header) - num_texts))
    return "\n".join([first, f"|{rule}|", *others])


def goal_table(lines: Sequence[Mapping[str, str]]) -> str:
    """Make the table of goals; a sentence if none was measured."""
    if not lines:
        return NOT_MEASURED
    return markdown([*lines[0]], [[*line.values()] for line in lines], 1)


def pivot(rows: Iterable[Row], texts: Mapping[str, Read], across: Read, value: Read) -> str:
    """Make a table with a line per combination of texts and a column per value of ``across``.

    Without rows it is a sentence that says so.
    """
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        columns[across(row)] = None
        line = tuple(read(row) for read in texts.values())
        lines.setdefault(line, {})[across(row)] = value(row)
    if not lines:
        return NOT_MEASURED
    body = [[*line, *(cells.get(each, "–") for each in columns)] for line, cells in lines.items()]
    return markdown([*texts, *columns], body, len(texts))


def millions(row: Row) -> str:
    """Negatives per second, in millions."""
    return rounded(row["negatives_per_second"], 1e6)


def nanoseconds(row: Row) -> str:
    """Nanoseconds per negative."""
    return rounded(row["ns_per_negative"], 1)


def rounded(value: object, unit: float) -> str:
    """Round to three digits, in multiples of a unit; – for what was not measured."""
    if not isinstance(value, float):
        return "–"
    value /= unit
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def columns_of(*names: str) -> dict[str, Read]:
    """Return columns that show facts of the rows under their names."""
    return {name: lambda row, name=name: str(row[name]) for name in names}  # type: ignore[misc]


def k_of(row: Row) -> str:
    """Return the heading of a column for the row's k."""
    return f"k = {row['k']}"


def size_of(row: Row) -> str:
    """Return the heading of a column for the row's batch size and k."""
    return f"{row['batch']} x {row['k']}"


def times(value: object, base: object) -> str:
    """Divide figures; – if one was not measured."""
    is_known = isinstance(value, float) and isinstance(base, float)
    return f"{value / base:.2f} ×" if is_known else "–"  # type: ignore[operator]
