"""Files of named columns: Parquet, Arrow (Feather) and JSON lines, read by polars."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.columns import Chosen, Table, choose
from negserve_server.graph.readers.formats.compression import read_bytes, read_text
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions

logger = logging.getLogger(__name__)


def read_parquet(path: Path, options: ReadOptions) -> Table:
    """Read triples from a Parquet file.

    :raises MalformedFile: naming file, reason and remedy
    """
    data = io.BytesIO(read_bytes(path))
    try:
        names = list(pl.read_parquet_schema(data))
        chosen = choose(path, names, options, are_names=True)
        data.seek(0)
        frame = pl.read_parquet(data, columns=[names[place] for place in chosen.places])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MalformedFile(path, None, f"is not Parquet: {error}") from error
    return _table(path, frame, names, chosen, options)


def read_arrow(path: Path, options: ReadOptions) -> Table:
    """Read triples from an Arrow file (Feather, version 2) or an Arrow stream.

    :raises MalformedFile: naming file, reason and remedy
    """
    data = read_bytes(path)
    read = pl.read_ipc if data.startswith(b"ARROW1") else pl.read_ipc_stream
    try:
        frame = read(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MalformedFile(path, None, f"is not Arrow: {error}") from error
    chosen = choose(path, frame.columns, options, are_names=True)
    return _table(path, frame, frame.columns, chosen, options)


def read_json_lines(path: Path, options: ReadOptions) -> Table:
    """Read triples from lines of JSON objects.

    The names of the first object are those of all; null and missing values are bad lines.

    :raises MalformedFile: naming file, line, reason and remedy
    """
    data = read_text(path)
    first = data.lstrip()
    if not first:
        raise MalformedFile(path, None, "holds no triples")
    line = data.count(b"\n", 0, len(data) - len(first)) + 1
    try:
        fields = json.loads(first.split(b"\n", 1)[0])
    except ValueError as error:
        raise MalformedFile(path, line, f"is not a JSON object: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedFile(
            path,
            line,
            'is not a JSON object; write lines such as {"head": "a", "relation": "r", "tail": "b"}',
        )
    names = list(fields)
    chosen = choose(path, names, options, are_names=True, line=line)
    schema = {names[place]: pl.String for place in chosen.places}
    try:
        frame = pl.read_ndjson(data, schema=schema)
    except pl.exceptions.PolarsError as error:
        lines, bad = _objects(data)
        if not bad:
            raise MalformedFile(path, None, f"is not JSON lines: {error}") from error
        if not options.skip_bad:
            raise MalformedFile(
                path,
                bad[0],
                "is not a JSON object; mend the line, or leave such lines out by --skip-bad",
            ) from error
        logger.warning("%s: %d bad lines left out, such as line %d", path, len(bad), bad[0])
        if not lines:
            raise MalformedFile(path, None, "holds no triples") from error
        frame = pl.read_ndjson(b"\n".join(lines), schema=schema)
    kinds = {names[place]: fields[names[place]] for place in chosen.places}
    for name, value in kinds.items():
        if isinstance(value, (dict, list, bool, float)):
            raise MalformedFile(path, line, f"{name} is {json.dumps(value)}; give a string")
    return _table(path, frame, names, chosen, options)


def _objects(data: bytes) -> tuple[list[bytes], list[int]]:
    """Divide a malformed file into the lines that are objects, and the numbers of the others."""
    good, bad = [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            is_object = isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        if is_object:
            good.append(line)
        else:
            bad.append(number)
    return good, bad


def _table(
    path: Path, frame: pl.DataFrame, names: list[str], chosen: Chosen, options: ReadOptions
) -> Table:
    left_out = [name for place, name in enumerate(names) if place not in chosen.places]
    if left_out:
        logger.info("%s: columns left out: %s", path, ", ".join(left_out))
    frame = frame.select(
        pl.col(names[place]).alias(role) for place, role in zip(chosen.places, COLUMNS, strict=True)
    )
    columns = []
    for column, place in zip(frame, chosen.places, strict=True):
        kind = column.dtype
        if isinstance(kind, (pl.Categorical, pl.Enum)):
            column = column.cast(pl.String)  # noqa: PLW2901
        elif not (kind == pl.String or kind.is_integer()):
            raise MalformedFile(
                path,
                None,
                f"the column {names[place]} has type {kind}; give strings or integers, or other "
                f"columns by --columns",
            )
        columns.append(column)
    frame = pl.DataFrame(columns)
    is_bad = frame.select(
        pl.any_horizontal(
            (pl.col(name).is_null() | (pl.col(name).cast(pl.String) == ""))
            if frame[name].dtype == pl.String
            else pl.col(name).is_null()
            for name in COLUMNS
        )
    ).to_series()
    if is_bad.any():
        row = int(is_bad.arg_max() or 0)
        if not options.skip_bad:
            raise MalformedFile(
                path,
                None,
                f"row {row + 1} has no head, relation or tail {frame.row(row)}; mend it, or leave "
                f"such rows out by --skip-bad",
            )
        logger.warning(
            "%s: %d rows without head, relation or tail left out, such as row %d",
            path,
            is_bad.sum(),
            row + 1,
        )
        frame = frame.filter(~is_bad)
    if frame.is_empty():
        raise MalformedFile(path, None, "holds no triples")
    return Table(path, frame, is_order_known=chosen.is_order_known)
