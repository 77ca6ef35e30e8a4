"""Signs that a file means another graph than the one read; each is refused with its remedy."""

from __future__ import annotations

import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.columns import Table
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions

#: An integer as programs write it, or one that became a decimal fraction.
INTEGER = r"^(0|-?[1-9][0-9]*)(\.0+)?$"


def check_order(table: Table, entities: pl.Series, relations: pl.Series) -> None:
    """Refuse a label that is both a relation and an entity, unless the order is known.

    :param entities: distinct labels
    :param relations: distinct labels
    :raises MalformedFile: naming such a label
    """
    if table.is_order_known:
        return
    both = entities.filter(entities.is_in(relations.implode()))
    if len(both):
        raise MalformedFile(
            table.path,
            None,
            f"labels stand in the relation's and an entity's column: {both.min()!r}, "
            f"{len(both)} in all; are the columns head, relation, tail? Give their order, as in "
            f"--columns head,relation,tail",
        )


def check_header(table: Table, seen: pl.Series) -> None:
    """Refuse a first line whose labels occur nowhere else, if it is the only such line.

    :param seen: distinct labels of the training triples, for a file of other triples
    :raises MalformedFile: naming the line
    """
    if table.first_line is None or len(table.frame) < 3:
        return
    rest = table.frame[1:]
    if (rest["relation"] == table.first_line[1]).any():
        return
    for name in COLUMNS:
        if any((rest[name] == label).any() for label in table.first_line):
            return
    if len(seen) and seen.is_in(list(table.first_line)).any():
        return
    lonely = rest.select(pl.col("relation").is_unique()).to_series()
    if len(rest.filter(lonely)):
        return
    raise MalformedFile(
        table.path,
        None,
        f"the first line, {', '.join(table.first_line)}, has no label of any other line; is it a "
        f"header? Give --header or --no-header",
    )


def check_spelling(
    tables: list[Table], labels: pl.Series, names: tuple[str, ...], options: ReadOptions
) -> None:
    """Refuse labels that are equal but for blanks around them or their Unicode form.

    :param tables: of numbers of labels
    :param labels: distinct labels of one kind, of all splits, by their numbers
    :param names: columns of that kind
    :raises MalformedFile: naming two such labels
    """
    for is_chosen, form, why, remedy in (
        (options.strip, labels.str.strip_chars(), "by blanks only", "--strip or --no-strip"),
        (
            options.normalize,
            _in_normal_form(labels),
            "in Unicode only: they are one in normal form NFC",
            "--normalize or --no-normalize",
        ),
    ):
        if is_chosen is not None:
            continue
        is_changed = form != labels
        if not is_changed.any():
            continue
        changed = labels.filter(is_changed)
        repeated = form.filter(form.is_duplicated() & (form != ""))
        pairs = pl.DataFrame({"label": labels, "form": form}).filter(
            pl.col("form").is_in(repeated.implode())
        )
        if len(pairs):
            same = pairs.filter(pl.col("form") == pairs["form"][0])["label"]
            odd = same.filter(same.is_in(changed.implode()))[0]
            plain = same.filter(same != odd)[0]
            number = int(labels.index_of(odd) or 0)
            path = _file_of(tables, names, number)
            raise MalformedFile(path, None, f"{odd!r} differs from {plain!r} {why}; give {remedy}")


def _in_normal_form(labels: pl.Series) -> pl.Series:
    if (labels.str.len_bytes() == labels.str.len_chars()).all():  # as most are, and faster
        return labels
    return labels.str.normalize("NFC")


def _file_of(tables: list[Table], names: tuple[str, ...], number: int) -> object:
    for table in tables:
        if any((table.frame[name] == number).any() for name in names):
            return table.path
    return tables[0].path


def all_integers(labels: pl.Series) -> bool:
    """Tell whether every label is an integer."""
    return bool(labels.str.contains(INTEGER).all())
