"""Which columns are head, relation and tail, by their names or as the reader is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions

#: Usual names of head, relation and tail; those of a row go together.
_NAMES = (
    (
        "head h head_id head_entity head_label",
        "relation r rel relation_id relation_type rel_type relationship relation_label",
        "tail t tail_id tail_entity tail_label",
    ),
    (
        "subject s subj subject_id subject_label",
        "predicate p pred predicate_id predicate_label property",
        "object o obj object_id object_label",
    ),
    ("source src source_id", "", "target tgt target_id dst dest destination"),
    ("from from_id", "", "to to_id"),
    ("start start_id", "type edge edge_type", "end end_id"),
    ("node1 e1 entity1", "", "node2 e2 entity2"),
)
_ROLES = {
    name: (role, family)
    for family, row in enumerate(_NAMES)
    for role, names in zip(COLUMNS, row, strict=True)
    for name in names.split()
}


@dataclass(frozen=True, slots=True)
class Table:
    """The triples of one file.

    :ivar path: the file
    :ivar frame: columns head, relation and tail, all of strings or all of integers
    :ivar is_order_known: whether names or an option say which column is which
    :ivar holds_ids: whether the format holds ids, not labels
    :ivar first_line: the first triple, if it may be a header
    """

    path: Path
    frame: pl.DataFrame
    is_order_known: bool = False
    holds_ids: bool = False
    first_line: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Places of head, relation and tail (from 0 on), and what the first line is.

    :ivar places: of head, relation and tail
    :ivar is_header: whether the first line names the columns
    :ivar is_order_known: whether names or an option say which column is which
    """

    places: tuple[int, int, int]
    is_header: bool
    is_order_known: bool


def role_of(name: str) -> str | None:
    """Tell what a column of a usual name holds: head, relation or tail; None if unknown."""
    return _ROLES.get(_plain(name), (None, 0))[0]


def _family(name: str) -> int:
    return _ROLES[_plain(name)][1]


def _plain(name: str) -> str:
    """Write a name as the usual ones are; property graphs have ":START_ID(Person)"."""
    plain = re.sub(r"\(.*\)$", "", name.strip().lower()).lstrip(":~")
    return re.sub(r"[ -]", "_", plain)


def choose(
    path: Path,
    fields: Sequence[str],
    options: ReadOptions,
    *,
    are_names: bool,
    line: int | None = None,
    unit: str = "columns",
) -> Chosen:
    """Choose the columns of a triple.

    :param fields: of the first line, or the names of the columns
    :param are_names: whether they are names for certain
    :param line: number of the first line, for messages
    :param unit: what a file has several of, for messages
    :raises MalformedFile: if it is not known which column is which
    """
    count = len(fields)
    if count < len(COLUMNS):
        raise MalformedFile(path, line, f"{count} {unit}; expected 3 ({', '.join(COLUMNS)})")
    by_name = _by_usual_names(path, fields, options, line) if options.header is not False else None
    if options.columns is not None:
        return _as_told(path, fields, options, are_names, by_name, line)
    if by_name is not None:
        return Chosen(by_name, True, True)
    is_header = are_names or options.header is True
    if count > len(COLUMNS):
        names = f": {', '.join(fields)}" if is_header else ""
        raise MalformedFile(
            path,
            line,
            f"{count} {unit}; expected 3 ({', '.join(COLUMNS)}){names}; say which by --columns",
        )
    unnamed = all(re.fullmatch(r"(column_?|_|c|f)?\d*", name.lower()) for name in fields)
    if are_names and not unnamed:
        raise MalformedFile(
            path,
            line,
            f"it is not known which of the columns {', '.join(fields)} is which; say it as in "
            f"--columns {','.join(fields)} (head, relation, tail)",
        )
    known = [name for name in fields if role_of(name)]
    if not is_header and options.header is None and len(known) == 2:
        raise MalformedFile(
            path,
            line,
            f"{known[0]!r} and {known[1]!r} may be names of columns or labels; "
            f"give --header or --no-header",
        )
    return Chosen((0, 1, 2), is_header, False)


def _by_usual_names(
    path: Path, fields: Sequence[str], options: ReadOptions, line: int | None
) -> tuple[int, int, int] | None:
    """Find the columns by usual names; None unless there are all three."""
    roles = [role_of(name) for name in fields]
    if not set(COLUMNS) <= set(roles):
        return None
    found = {role: [place for place, each in enumerate(roles) if each == role] for role in COLUMNS}
    every = list(product(*found.values()))
    if len(every) > 1:  # such as subject, predicate, object and source
        families = [[_family(fields[place]) for place in each] for each in every]
        for num_alike in (lambda f: len(set(f)) == 1, lambda f: f[0] == f[2]):
            alike = [each for each, f in zip(every, families, strict=True) if num_alike(f)]
            if len(alike) == 1:
                return alike[0][0], alike[0][1], alike[0][2]
        if options.columns is None:
            role = next(role for role in COLUMNS if len(found[role]) > 1)
            names = " and ".join(fields[place] for place in found[role])
            raise MalformedFile(path, line, f"{names} may be the {role}; say which by --columns")
    return every[0][0], every[0][1], every[0][2]


def _as_told(
    path: Path,
    fields: Sequence[str],
    options: ReadOptions,
    are_names: bool,
    by_name: tuple[int, int, int] | None,
    line: int | None,
) -> Chosen:
    told = [name.strip() for name in options.columns or ()]
    given = ",".join(told)
    is_header = are_names or options.header is True or by_name is not None
    places: list[int]
    if len(told) == len(COLUMNS) and all(name.isdecimal() for name in told):
        places = [int(name) - 1 for name in told]
        if len(set(places)) < len(places) or not all(0 <= p < len(fields) for p in places):
            raise MalformedFile(
                path, line, f"--columns {given}: give three places from 1 to {len(fields)}"
            )
    elif len(told) == len(COLUMNS) and set(told) <= set(fields) and options.header is not False:
        # A header that has the words head, relation and tail says itself which is which.
        wanted = COLUMNS if set(told) == set(COLUMNS) else told
        places, is_header = [list(fields).index(name) for name in wanted], True
    elif set(COLUMNS) <= set(told) and len(told) == len(fields):
        places = [told.index(role) for role in COLUMNS]
    else:
        raise MalformedFile(
            path,
            line,
            f"--columns {given} fits none of the columns ({', '.join(fields)}); give the names or "
            f"places of head, relation and tail, or one word for each of {len(fields)} columns",
        )
    return Chosen((places[0], places[1], places[2]), is_header, True)
