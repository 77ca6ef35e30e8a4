"""The parts of docs/protocol.md that tests check."""

from __future__ import annotations

import re

from tests.support.graphs import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")


def block(info: str) -> str:
    """Return the only fenced block with an info string."""
    (text,) = re.findall(rf"^```{info}\n(.*?)^```$", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
    return str(text)


def cells(lines: str) -> list[list[str]]:
    """Return the cells of the rows of a table."""
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in lines.splitlines()]


def rows(first_column: str) -> list[list[str]]:
    """Return the cells of the only table whose header begins with a column."""
    (text,) = re.findall(
        rf"^\| {first_column} \|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", DOCUMENT, flags=re.MULTILINE
    )
    return cells(text)
