"""Triples that people give to commands: lines of labels or ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import click
import numpy as np
from numpy.typing import NDArray

from negserve.terminal.nearest import did_you_mean
from negserve.types.checks.text import printable

_LINES_PER_REQUEST = 1024
_COLUMNS = ("head", "relation", "tail")


def parse_mixture(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[tuple[str, int], ...]:
    """Parse the parts of a mixture, such as ``bernoulli=3,typed=1``."""
    del context, parameter
    parts = []
    for part in value.split(",") if value else ():
        kind, _, shares = part.strip().partition("=")
        if not shares.isdecimal():
            raise click.BadParameter(f"{part!r} is not KIND=SHARES, such as typed=1")
        parts.append((kind, int(shares)))
    return tuple(parts)


class Vocabulary:
    """Converts between ids and the labels in input and output; with --ids it keeps ids."""

    def __init__(self, factory: Any, ids: bool) -> None:
        self._to_id: tuple[Mapping[str, int], ...] | None = None
        if not ids:
            entities = factory.entity_to_id, factory.entity_labels
            relations = factory.relation_to_id, factory.relation_labels
            self._to_id = (entities[0], relations[0], entities[0])
            self._labels = (entities[1], relations[1], entities[1])
            if not entities[0]:
                raise click.UsageError(f"{factory.name} has no labels; use --ids")

    def parse(self, text: str, column: int, what: str = "") -> int:
        """Return the id that a text stands for in a column.

        :param what: what the text is, for the error
        :raises ValueError: if it stands for none
        """
        what = what or _COLUMNS[column]
        if self._to_id is None:
            if not text.isdecimal():
                raise ValueError(f"{what} {text!r} is not an id")
            return int(text)
        if text not in self._to_id[column]:
            nearest = did_you_mean(text, self._to_id[column])
            raise ValueError(f"{what} {text!r} is not in the vocabulary{nearest}")
        return self._to_id[column][text]

    def name(self, triple: Sequence[int]) -> list[str | int | float]:
        """Return how a triple is printed."""
        if self._to_id is None:
            return list(triple)
        return [self._labels[column][i] for column, i in enumerate(triple)]


def numbered_lines(lines: TextIO) -> Iterator[tuple[int, str]]:
    """Give each line its number, from 1.

    :raises ClickException: for bytes that are no UTF-8, naming the file
    """
    try:
        yield from enumerate(lines, start=1)
    except UnicodeDecodeError as error:
        raise click.ClickException(printable(f"{lines.name}: {error}; give UTF-8")) from error


def read_triples(lines: TextIO, vocabulary: Vocabulary) -> Iterator[NDArray[np.int64]]:
    """Read triples, some at a time, each shape (n, 3); empty lines are skipped.

    :raises ClickException: naming file and line
    """
    rows: list[list[int]] = []
    for number, raw in numbered_lines(lines):
        line = raw.rstrip("\r\n")
        if not line:
            continue
        fields = line.split("\t")
        try:
            if len(fields) != 3:
                raise ValueError(f"{len(fields)} tab-separated fields; expected 3")
            rows.append([vocabulary.parse(field, column) for column, field in enumerate(fields)])
        except ValueError as error:
            raise click.ClickException(
                printable(f"{lines.name}, line {number}: {error}")
            ) from error
        if len(rows) == _LINES_PER_REQUEST:
            yield np.array(rows)
            rows = []
    if rows:
        yield np.array(rows)
