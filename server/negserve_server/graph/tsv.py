"""Triples from files of tab-separated labels."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

import polars as pl

from negserve_server.errors import MalformedFile

COLUMNS = ("head", "relation", "tail")
_STEMS = {"training": "train", "validation": "valid", "testing": "test"}
_ENDINGS = ("txt", "tsv", "txt.gz", "tsv.gz")


def read_tsv(path: Path) -> pl.DataFrame:
    r"""Read ``head\trelation\ttail`` lines, plain or gzip (told by content, not by name).

    UTF-8, no header, no quoting; ``\n`` or ``\r\n`` ends a line; blank lines and a byte order
    mark are passed over; labels are kept as they are.

    :return: string columns head, relation, tail, in the order of the file
    :raises MalformedFile: naming file, line and reason
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise MalformedFile(path, None, f"can't be read: {error}") from error
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    if not data or b"\r" in data:  # polars would drop a carriage return within a line
        return _read_lines(path, data)
    try:
        frame = pl.read_csv(
            data,
            separator="\t",
            has_header=False,
            quote_char=None,
            schema=dict.fromkeys(COLUMNS, pl.String),
        )
    except pl.exceptions.PolarsError:
        return _read_lines(path, data)
    if sum(frame.null_count().row(0)) > 0:
        return _read_lines(path, data)
    return frame


def _read_lines(path: Path, data: bytes) -> pl.DataFrame:
    """Read line by line what the fast reader does not take, to name the line at fault."""
    rows: list[list[str]] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line:
            continue
        try:
            fields = line.decode("utf-8").split("\t")
        except UnicodeDecodeError as error:
            raise MalformedFile(path, number, f"not UTF-8: {error.reason}") from error
        if len(fields) != 3:
            raise MalformedFile(
                path,
                number,
                f"{len(fields)} tab-separated fields where 3 are due (head, relation, tail)",
            )
        for name, field in zip(COLUMNS, fields, strict=True):
            if not field:
                raise MalformedFile(path, number, f"the {name} is empty")
        rows.append(fields)
    if not rows:
        raise MalformedFile(path, None, "holds no triples")
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def find_splits(path: Path) -> dict[str, Path]:
    """Find the split files of a dataset.

    :param path: a file (training only) or a folder with ``train``, and if there are any
        ``valid`` and ``test``, each ``.txt`` or ``.tsv``, plain or ``.gz``
    :raises MalformedFile: if there is no training file, or two for one split
    """
    if not path.exists():
        raise MalformedFile(path, None, "there is no such file or folder")
    if not path.is_dir():
        return {"training": path}
    found = {}
    for split, stem in _STEMS.items():
        files = [
            path / f"{stem}.{ending}" for ending in _ENDINGS if (path / f"{stem}.{ending}").exists()
        ]
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            raise MalformedFile(path, None, f"holds {names}; keep one of them")
        if files:
            found[split] = files[0]
    if "training" not in found:
        raise MalformedFile(
            path, None, f"holds no training triples (train.{{{','.join(_ENDINGS)}}})"
        )
    return found
