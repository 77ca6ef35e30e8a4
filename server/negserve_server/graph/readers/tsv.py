"""Rows from files of tab-separated labels."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from negserve_server.errors import MalformedFile

COLUMNS = ("head", "relation", "tail")
_STEMS = {"training": "train", "validation": "valid", "testing": "test"}
_ENDINGS = ("txt", "tsv", "txt.gz", "tsv.gz")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the lines of a file hold.

    :ivar columns: names of the fields, in their order
    :ivar holds: what a line states, in the plural, for messages
    :ivar legal: the only values that a column may have, where it is not free
    :ivar last_repeats: whether a line may give several values of the last column, each a row
    """

    columns: tuple[str, ...]
    holds: str
    legal: dict[str, tuple[str, ...]] = field(default_factory=dict)
    last_repeats: bool = False


TRIPLES = Layout(COLUMNS, "triples")


def read_tsv(path: Path, layout: Layout = TRIPLES) -> pl.DataFrame:
    r"""Read lines such as ``head\trelation\ttail``, plain or gzip (told by content, not by name).

    UTF-8, no header, no quoting; ``\n`` or ``\r\n`` ends a line; blank lines and a byte order
    mark are passed over; labels are kept as they are.

    :return: string columns as the layout names them, in the order of the file
    :raises MalformedFile: naming file, line and reason
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise MalformedFile(path, None, f"can't be read: {error}") from error
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    schema = dict.fromkeys(layout.columns, pl.String)
    if data and b"\r" not in data:  # polars would drop a carriage return within a line
        try:
            frame = pl.read_csv(
                data, separator="\t", has_header=False, quote_char=None, schema=schema
            )
        except pl.exceptions.PolarsError:
            pass
        else:
            if sum(frame.null_count().row(0)) == 0 and all(
                frame[name].is_in(values).all() for name, values in layout.legal.items()
            ):
                return frame
    rows = list(_read_lines(path, data, layout))
    if not rows:
        raise MalformedFile(path, None, f"holds no {layout.holds}")
    return pl.DataFrame(rows, schema=schema, orient="row")


def _read_lines(path: Path, data: bytes, layout: Layout) -> Iterator[list[str]]:
    """Read line by line what the fast reader does not take, to name the line at fault."""
    due = len(layout.columns)
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line:
            continue
        try:
            fields = line.decode("utf-8").split("\t")
        except UnicodeDecodeError as error:
            raise MalformedFile(path, number, f"not UTF-8: {error.reason}") from error
        if len(fields) < due or (len(fields) > due and not layout.last_repeats):
            wanted = f"{due} or more" if layout.last_repeats else f"{due}"
            raise MalformedFile(
                path,
                number,
                f"{len(fields)} tab-separated fields where {wanted} are due "
                f"({', '.join(layout.columns)})",
            )
        for index, value in enumerate(fields):
            name = layout.columns[min(index, due - 1)]
            if not value:
                raise MalformedFile(path, number, f"the {name} is empty")
            if value not in layout.legal.get(name, (value,)):
                legal = " or ".join(layout.legal[name])
                raise MalformedFile(path, number, f"the {name} is {value!r}; give {legal}")
        for last in fields[due - 1 :]:
            yield [*fields[: due - 1], last]


def find_file(folder: Path, stem: str) -> Path | None:
    """Find the file of a name, ``.txt`` or ``.tsv``, plain or ``.gz``; None if there is none.

    :raises MalformedFile: if there are two
    """
    files = [folder / f"{stem}.{ending}" for ending in _ENDINGS]
    files = [file for file in files if file.exists()]
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise MalformedFile(folder, None, f"holds {names}; keep one of them")
    return files[0] if files else None


def find_splits(path: Path) -> dict[str, Path]:
    """Find the split files of a dataset.

    :param path: a file (training only) or a folder with ``train``, and if there are any
        ``valid`` and ``test``, each ``.txt`` or ``.tsv``, plain or ``.gz``
    :raises MalformedFile: if there is no training file, or two for one split
    """
    if not path.exists():
        raise MalformedFile(path, None, "no such file or folder")
    if not path.is_dir():
        return {"training": path}
    files = {split: find_file(path, stem) for split, stem in _STEMS.items()}
    if files["training"] is None:
        raise MalformedFile(
            path, None, f"holds no training triples (train.{{{','.join(_ENDINGS)}}})"
        )
    return {split: file for split, file in files.items() if file is not None}
