"""Files that say which label has which id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.delimited import Text
from negserve_server.graph.vocabulary import Vocabulary

#: Names of the files without their endings, by the kind of ids.
STEMS = {
    "entities": ("entities.dict", "entity_ids.del", "entity2id", "entity_to_id"),
    "relations": ("relations.dict", "relation_ids.del", "relation2id", "relation_to_id"),
}
#: Headers, and whether the ids stand first.
_HEADERS = {"id\tlabel": True, "label\tid": False}


def read_id_map(path: Path, *, is_id_first: bool | None = None) -> Vocabulary:
    """Read lines with an id and a label, in either order; ids are 0 to n - 1, each once.

    A first line may be the number of the others, or the header ``id label`` with a tab.

    :param is_id_first: whether ids stand before labels if both orders would be possible; None
        refuses that
    :raises MalformedFile: naming file, line, reason and remedy
    """
    lines = Text(path, "\t").whole_lines()
    if lines.is_empty():
        raise MalformedFile(path, None, "holds no ids")
    first = lines["line"][0]
    if first.strip().isdecimal():
        if int(first) != len(lines) - 1:
            raise MalformedFile(
                path,
                1,
                f"says that {int(first)} lines follow, but {len(lines) - 1} do; is it cut off?",
            )
        lines = lines[1:]
    elif (header := _HEADERS.get(first.strip())) is not None:
        is_id_first, lines = header, lines[1:]
    by = r"\t" if lines["line"].str.contains("\t", literal=True).all() else r"[ \t,]"
    parts = lines.with_columns(
        id_first=pl.col("line").str.extract(rf"^\s*(\d+){by}+\S"),
        label_last=pl.col("line").str.extract(rf"^\s*\d+{by}(.+)$"),
        label_first=pl.col("line").str.extract(rf"^(.*\S){by}+\d+\s*$")
        if by != r"\t"
        else pl.col("line").str.extract(r"^([^\t]+)\t\s*\d+\s*$"),
        id_last=pl.col("line").str.extract(rf"{by}(\d+)\s*$"),
    )
    found = {}
    for order, id_name, label_name in (
        (True, "id_first", "label_last"),
        (False, "id_last", "label_first"),
    ):
        if parts[id_name].null_count() == parts[label_name].null_count() == 0:
            found[order] = (parts[id_name], parts[label_name])
    if not found:
        bad = parts.filter(pl.col("id_first").is_null() & pl.col("id_last").is_null())
        line = int(bad["number"][0]) if len(bad) else None
        raise MalformedFile(path, line, "is not a line of an id and a label")
    if len(found) == 2:
        complete = [order for order in found if _is_complete(found[order][0])]
        if len(complete) == 1:
            found = {complete[0]: found[complete[0]]}
        elif is_id_first is not None:
            found = {is_id_first: found[is_id_first]}
        elif not (found[True][0] == found[True][1]).all():
            raise MalformedFile(
                path,
                None,
                "ids may stand before or behind labels; name the file entities.dict or "
                "relations.dict if before, entity2id.txt or relation2id.txt if behind",
            )
    ids, labels = next(iter(found.values()))
    return _vocabulary(path, ids, labels)


def _is_complete(ids: pl.Series) -> bool:
    numbers = ids.cast(pl.UInt64, strict=False).sort()
    if numbers.null_count():
        return False
    return bool((numbers == pl.int_range(len(ids), dtype=pl.UInt64, eager=True)).all())


def _vocabulary(path: Path, ids: pl.Series, labels: pl.Series) -> Vocabulary:
    numbers = ids.cast(pl.UInt64, strict=False)
    if numbers.null_count():
        raise MalformedFile(path, None, f"has id {ids.filter(numbers.is_null())[0]}, above 2^64")
    order = numbers.arg_sort()
    ordered = numbers[order].to_numpy()
    gaps = np.flatnonzero(ordered != np.arange(len(ordered), dtype=np.uint64))
    if len(gaps):
        at = int(gaps[0])
        value = int(ordered[at])
        if value < at:
            raise MalformedFile(path, None, f"has id {value} twice; give each id one label")
        none = f"{at} to {value - 1}" if value - 1 > at else f"{at}"
        raise MalformedFile(
            path,
            None,
            f"has id {value} and none from {none}; give each id from 0 on a label"
            if value - 1 > at
            else f"has id {value} and none of {none}; give each id from 0 on a label",
        )
    repeated = labels.filter(~labels.is_first_distinct())
    if len(repeated):
        raise MalformedFile(path, None, f"gives {repeated[0]!r} two ids; give each label one")
    return Vocabulary(labels[order])
