"""Arrays of ids that numpy saved: ``.npy`` is one, ``.npz`` one for each split."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.columns import Table, choose
from negserve_server.graph.readers.formats.compression import read_bytes
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions

logger = logging.getLogger(__name__)


def read_arrays(path: Path, options: ReadOptions) -> dict[str, Table]:
    """Read a table of ids (or labels) for each array, by the array's name.

    :return: by the names in an ``.npz``; "" for the only array
    :raises MalformedFile: naming file, array and what was expected
    """
    try:
        loaded = _load(path)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise MalformedFile(path, None, f"is not an array of numpy: {error}") from error
    if len(arrays) == 1:
        arrays = {"": next(iter(arrays.values()))}
    if set(arrays) == set(COLUMNS) and all(each.ndim == 1 for each in arrays.values()):
        if len({len(each) for each in arrays.values()}) > 1:
            raise MalformedFile(path, None, "head, relation and tail have different lengths")
        return {"": _table(path, "", np.stack([arrays[name] for name in COLUMNS], 1), options)}
    tables = {}
    for name, array in arrays.items():
        if array.ndim == 2 and array.shape[1] >= len(COLUMNS):
            tables[name] = _table(path, name, array, options)
        else:
            logger.info("%s: array %s not read: its shape is %s", path, name, array.shape)
    if not tables:
        shapes = ", ".join(f"{name or 'it'} has {each.shape}" for name, each in arrays.items())
        raise MalformedFile(path, None, f"holds no array of shape (n, 3): {shapes}")
    return tables


def _load(path: Path) -> Any:
    """Load arrays; that of a file which is not packed is mapped."""
    with path.open("rb") as file:
        is_plain = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
    if is_plain:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)


def _table(path: Path, name: str, array: NDArray[Any], options: ReadOptions) -> Table:
    where = f"array {name}: " if name else ""
    if array.dtype.kind not in "iuU":
        raise MalformedFile(
            path, None, f"{where}has type {array.dtype}; give integer ids, or strings"
        )
    if array.shape[1] > len(COLUMNS) and options.columns is None:
        raise MalformedFile(
            path, None, f"{where}{array.shape[1]} columns; expected 3; say which by --columns"
        )
    names = [f"column_{place}" for place in range(1, array.shape[1] + 1)]
    chosen = choose(path, names, options, are_names=True)
    columns = [array[:, place] for place in chosen.places]
    holds_ids = array.dtype.kind != "U"
    if holds_ids and array.size and max(int(each.max()) for each in columns) > 2**63 - 1:
        raise MalformedFile(path, None, f"{where}has an id above 2^63 - 1")
    frame = pl.DataFrame(
        {
            role: pl.Series(np.ascontiguousarray(column) if holds_ids else column.tolist())
            for role, column in zip(COLUMNS, columns, strict=True)
        }
    )
    return Table(path, frame, is_order_known=chosen.is_order_known, holds_ids=holds_ids)
