"""Tables of all files of a graph, whatever their formats."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.arrays import read_arrays
from negserve_server.graph.readers.formats.columnar import read_arrow, read_json_lines, read_parquet
from negserve_server.graph.readers.formats.columns import Table
from negserve_server.graph.readers.formats.delimited import read_delimited
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions
from negserve_server.graph.readers.formats.rdf import read_rdf
from negserve_server.graph.readers.sources import (
    FORMATS,
    SPLIT_OF,
    Sources,
    divide_name,
    is_counted,
    is_del,
)

logger = logging.getLogger(__name__)


def read_tables(sources: Sources, options: ReadOptions) -> dict[str, list[Table]]:
    """Read the tables of all splits."""
    # In a function of its own, so that no name of it keeps the labels of a table in memory.
    tables: dict[str, list[Table]] = {}
    for split, files in sources.splits.items():
        for file in files:
            for where, table in _read(file, split, options).items():
                tables.setdefault(where, []).append(_spelt(table, options))
    return tables


def _read(file: Path, split: str, options: ReadOptions) -> dict[str, Table]:
    """Read a file, whatever its format; an ``.npz`` may have several splits."""
    stem, ending = divide_name(file)
    form = FORMATS.get(ending, "\t")
    if form == "parquet":
        return {split: read_parquet(file, options)}
    if form == "arrow":
        return {split: read_arrow(file, options)}
    if form == "json lines":
        return {split: read_json_lines(file, options)}
    if form == "rdf":
        return {split: read_rdf(file, ending, options)}
    if form == "arrays":
        found = read_arrays(file, options)
        if list(found) == [""]:
            return {split: found[""]}
        named = {SPLIT_OF[name.lower()]: t for name, t in found.items() if name.lower() in SPLIT_OF}
        unread = [name for name in found if name.lower() not in SPLIT_OF]
        if unread:
            logger.info("%s: arrays not read: %s", file, ", ".join(unread))
        if not named:
            raise MalformedFile(
                file, None, f"names of arrays are {', '.join(found)}; name one train"
            )
        return named
    if is_counted(file):
        return {
            split: read_delimited(
                file, " ", options, order=("head", "tail", "relation"), has_count=True
            )
        }
    if is_del(file) and SPLIT_OF.get(stem):
        return {split: read_delimited(file, form, options, order=COLUMNS)}
    return {split: read_delimited(file, form, options)}


def _spelt(table: Table, options: ReadOptions) -> Table:
    """Bring labels into the spelling asked for."""
    frame = table.frame
    strings = [name for name in COLUMNS if frame[name].dtype == pl.String]
    if options.strip:
        frame = frame.with_columns(pl.col(strings).str.strip_chars())
    if options.normalize:
        frame = frame.with_columns(pl.col(strings).str.normalize("NFC"))
    if options.ids is False or (options.ids is None and not table.holds_ids):
        frame = frame.with_columns(pl.all().cast(pl.String))
    return table if frame is table.frame else replace(table, frame=frame)
