"""From the files of a graph to triples of ids."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers import checks
from negserve_server.graph.readers.arrays import read_arrays
from negserve_server.graph.readers.columnar import read_arrow, read_json_lines, read_parquet
from negserve_server.graph.readers.columns import Table
from negserve_server.graph.readers.delimited import read_delimited
from negserve_server.graph.readers.id_maps import read_id_map
from negserve_server.graph.readers.labels import Labels, encoded
from negserve_server.graph.readers.options import COLUMNS, ReadOptions
from negserve_server.graph.readers.rdf import read_rdf
from negserve_server.graph.readers.sources import (
    FORMATS,
    SPLIT_OF,
    Sources,
    divide_name,
    find_sources,
    is_counted,
    is_del,
)
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.triple_columns import TripleColumns

logger = logging.getLogger(__name__)

_KINDS = {"entities": ("head", "tail"), "relations": ("relation",)}
_OPTIONS = {"entities": "--entity-ids", "relations": "--relation-ids"}


@dataclass(frozen=True, slots=True)
class ReadGraph:
    """A graph as its files say.

    :ivar splits: ids, by split
    :ivar num_entities: size of the id space
    :ivar num_relations: likewise
    :ivar entities: labels; None where files hold ids without labels
    :ivar relations: likewise
    :ivar num_unseen: triples left out for a label without an id, by split
    :ivar constraints: the file of type constraints of the folder
    """

    splits: dict[str, TripleColumns]
    num_entities: int
    num_relations: int
    entities: Vocabulary | None
    relations: Vocabulary | None
    num_unseen: dict[str, int]
    constraints: Path | None


@dataclass(frozen=True, slots=True)
class BaseIds:
    """The ids of a graph that is to grow: what is read keeps them, and adds labels behind them.

    :ivar entities: labels; None for a graph of ids alone
    :ivar relations: likewise
    :ivar num_entities: size of the id space
    :ivar num_relations: likewise
    """

    entities: Vocabulary | None
    relations: Vocabulary | None
    num_entities: int
    num_relations: int

    def vocabulary(self, kind: str) -> Vocabulary | None:
        """Labels of a kind."""
        return self.entities if kind == "entities" else self.relations

    def size(self, kind: str) -> int:
        """Size of an id space."""
        return self.num_entities if kind == "entities" else self.num_relations


def read_graph(path: Path, options: ReadOptions, base: BaseIds | None = None) -> ReadGraph:
    """Read a graph.

    :param path: a file of training triples, or a folder
    :param base: ids that it keeps; None for ids of its own
    :raises MalformedFile: naming file, line, what was expected and the remedy
    :raises MissingLibraryError: for RDF without the extra ``rdf``
    """
    sources = find_sources(path, options)
    tables = _read_all(sources, options)
    if "training" not in tables:
        raise MalformedFile(path, None, f"holds no training triples, only {', '.join(tables)}")
    if base is not None and sources.maps:
        files = ", ".join(str(file) for file in sources.maps.values())
        raise MalformedFile(
            path, None, f"a graph that grows keeps its ids; move {files} to another folder"
        )
    maps = {kind: _spelt_map(file, options) for kind, file in sources.maps.items()}
    labels = _check(tables, maps, options)
    vocabularies: dict[str, Vocabulary | None] = {}
    sizes: dict[str, int] = {}
    columns: dict[tuple[str, str], pl.Series] = {}
    for kind, names in _KINDS.items():
        numbered = _Numbering(kind, names, tables, maps, options, labels[kind], base)
        vocabularies[kind], sizes[kind] = numbered.vocabulary, numbered.size
        columns |= numbered.columns
    splits: dict[str, TripleColumns] = {}
    num_unseen: dict[str, int] = {}
    for split, parts in tables.items():
        mapped = pl.DataFrame([columns[split, name].alias(name) for name in COLUMNS])
        seen = mapped.drop_nulls()
        num_unseen[split] = len(mapped) - len(seen)
        if num_unseen[split]:
            _log_unseen(parts, mapped, labels)
        heads, relations, tails = (seen[name].to_numpy() for name in COLUMNS)
        splits[split] = TripleColumns.sorted(
            heads, relations, tails, sizes["entities"], sizes["relations"]
        )
    return ReadGraph(
        splits,
        sizes["entities"],
        sizes["relations"],
        vocabularies["entities"],
        vocabularies["relations"],
        num_unseen,
        sources.constraints,
    )


def _read_all(sources: Sources, options: ReadOptions) -> dict[str, list[Table]]:
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


def _spelt_map(file: Path, options: ReadOptions) -> tuple[Path, Vocabulary]:
    first = divide_name(file)[1] in {"dict", "del"} or (False if is_counted(file) else None)
    vocabulary = read_id_map(file, is_id_first=first)
    labels = vocabulary.series
    if options.strip:
        labels = labels.str.strip_chars()
    if options.normalize:
        labels = labels.str.normalize("NFC")
    if labels.is_duplicated().any():
        label = labels.filter(labels.is_duplicated())[0]
        raise MalformedFile(file, None, f"{label!r} has two ids after --strip and --normalize")
    return file, Vocabulary(labels)


def _check(
    tables: dict[str, list[Table]],
    maps: Mapping[str, tuple[Path, Vocabulary]],
    options: ReadOptions,
) -> dict[str, Labels]:
    """Refuse what could mean two graphs; replace labels in the tables by their numbers."""
    labels = {kind: Labels() for kind in _KINDS}
    training = tables["training"]
    if training[0].holds_ids or options.ids:
        return labels
    by_column = {name: labels[kind] for kind, names in _KINDS.items() for name in names}
    seen = pl.Series(dtype=pl.String)
    for split in sorted(tables, key=lambda split: split != "training"):
        parts = tables[split]
        for number, table in enumerate(parts):
            checks.check_header(table, seen)
            parts[number] = replace(table, frame=encoded(table, by_column))
            del table
        if split == "training":
            for each in labels.values():
                each.end_training()
            seen = pl.concat([each.training for each in labels.values()])
    if not maps and not _all_integers(seen):
        checks.check_order(training[0], *(labels[kind].training for kind in _KINDS))
    every = [table for parts in tables.values() for table in parts]
    for kind, each in labels.items():
        if kind not in maps:
            checks.check_spelling(every, each.all, _KINDS[kind], options)
    return labels


def _all_integers(labels: pl.Series) -> bool:
    return bool(labels.str.contains(checks.INTEGER).all())


class _Numbering:
    """The ids of one kind, entities or relations.

    :ivar columns: ids by split and column; null for a label without one
    """

    def __init__(
        self,
        kind: str,
        names: tuple[str, ...],
        tables: Mapping[str, list[Table]],
        maps: Mapping[str, tuple[Path, Vocabulary]],
        options: ReadOptions,
        labels: Labels,
        base: BaseIds | None,
    ) -> None:
        self._base = base
        self._kind, self._tables, self._maps, self._options = kind, tables, maps, options
        self._labels = labels
        self._file = tables["training"][0].path
        labelled = {
            (split, name): _joined([table.frame[name] for table in parts])
            for split, parts in tables.items()
            for name in names
        }
        training = [labelled["training", name] for name in names]
        given = maps.get(kind)
        self.vocabulary: Vocabulary | None = given[1] if given else None
        if base is not None:
            self.vocabulary = base.vocabulary(kind)
        if self._are_ids():
            self.columns = {key: self._as_ids(column) for key, column in labelled.items()}
            largest = max(int(column.max() or 0) for column in self.columns.values())  # type: ignore[arg-type]
            if self.vocabulary is not None:
                self.size = len(self.vocabulary)
            else:
                self.size = max(largest + 1, 0 if base is None else base.size(kind))
            if largest >= self.size or largest >= 2**32:
                limit = f"{given[0].name} ends at {self.size - 1}" if given else "2^32 - 1 is legal"
                if base is not None and self.vocabulary is not None:
                    limit = (
                        f"those of the graph with labels end at {self.size - 1}; give new ones as "
                        f"labels"
                    )
                raise MalformedFile(self._file, None, f"{kind} have an id {largest}; {limit}")
            return
        self.vocabulary, ids = self._number()
        self.columns = {key: ids.gather(column) for key, column in labelled.items()}
        self.size = len(self.vocabulary)
        if given:
            for name, column in zip(names, training, strict=True):
                self._check_known(column, self.columns["training", name], given[0])

    def _number(self) -> tuple[Vocabulary, pl.Series]:
        """Give the vocabulary, and the id of each label by its number, uint32, or null.

        Labels are sorted by code points, as Python's ``sorted`` and so PyKEEN sorts them: UTF-8
        bytes, by which polars sorts, are ordered likewise.
        """
        if self._base is not None:
            return self._number_behind(self._base)
        if self.vocabulary is not None:
            return self.vocabulary, self.vocabulary.ids(self._labels.all)
        training = self._labels.training
        # Labels are numbered again, since polars sorts five times as fast as it tells the order.
        in_order = training.sort()
        ids = np.empty(len(in_order), dtype=np.uint32)
        ids[self._labels.encode(in_order)] = np.arange(len(in_order), dtype=np.uint32)
        all_ids = pl.Series(ids).extend_constant(None, len(self._labels.all) - len(ids))
        return Vocabulary(in_order), all_ids

    def _number_behind(self, base: BaseIds) -> tuple[Vocabulary, pl.Series]:
        """As :meth:`_number`: known labels keep their ids, new ones get the next, sorted."""
        before = self.vocabulary
        labels, num_training = self._labels.all, len(self._labels.training)
        if before is None:
            raise MalformedFile(
                self._file,
                None,
                f"holds labels of {self._kind}, and the graph that grows has ids alone; give ids, "
                f"with --ids",
            )
        ids = before.ids(labels).to_numpy(writable=True).astype(np.float64)
        is_new = np.isnan(ids)
        is_new[num_training:] = False
        new = labels.filter(pl.Series(is_new))
        self._check_new(new, before)
        order = new.arg_sort()
        places = np.flatnonzero(is_new)
        ids[places[order.to_numpy()]] = base.size(self._kind) + np.arange(len(new))
        numbers = pl.Series(ids, nan_to_null=True).cast(pl.UInt32)
        if not len(new):
            return before, numbers
        return Vocabulary(pl.concat([before.series, new.gather(order)])), numbers

    def _check_new(self, new: pl.Series, before: Vocabulary) -> None:
        """Refuse new labels that are equal to known ones but for blanks or their Unicode form."""
        for is_chosen, form, remedy in (
            (self._options.strip, new.str.strip_chars(), "--strip or --no-strip"),
            (self._options.normalize, new.str.normalize("NFC"), "--normalize or --no-normalize"),
        ):
            if is_chosen is not None:
                continue
            changed = form != new
            known = before.ids(form.filter(changed))
            if known.null_count() < len(known):
                is_known = known.is_not_null()
                raise MalformedFile(
                    self._file,
                    None,
                    f"{new.filter(changed).filter(is_known)[0]!r} differs from "
                    f"{form.filter(changed).filter(is_known)[0]!r} of the graph that grows by "
                    f"blanks or in Unicode only; give {remedy}",
                )

    def _are_ids(self) -> bool:
        """Tell ids from labels, or refuse to."""
        if self._options.ids is not None:
            return self._options.ids
        if self._tables["training"][0].holds_ids:
            if self._base is not None and self.vocabulary is not None:
                raise MalformedFile(
                    self._file,
                    None,
                    f"holds integers, and the graph that grows has labels of {self._kind}; give "
                    f"--ids if they are its ids, --labels if they are labels",
                )
            return True
        labels = self._labels.training
        if not _all_integers(labels):
            return False
        if self._base is not None:
            known = None if self.vocabulary is None else self.vocabulary.ids(labels)
            if known is not None and not known.null_count():
                return False
            raise MalformedFile(
                self._file,
                None,
                f"all labels of {self._kind} are integers, such as {labels.sort()[0]}, and the "
                f"graph that grows has not all of them as labels; give --ids if they are its ids, "
                f"--labels if they are only names",
            )
        if self.vocabulary is None:
            raise MalformedFile(
                self._file,
                None,
                f"all labels of {self._kind} are integers, such as {labels.sort()[0]}; give "
                f"--ids if they are ids, --labels if they are only names, or a file of ids "
                f"({' or '.join(_names_of_maps(self._kind))} beside it, or {_OPTIONS[self._kind]})",
            )
        known = self.vocabulary.ids(labels)
        numbers = labels.cast(pl.Int64, strict=False)
        may_be_ids = numbers.null_count() == 0 and bool(
            numbers.is_between(0, len(self.vocabulary) - 1).all()
        )
        may_be_labels = known.null_count() == 0
        if may_be_ids and may_be_labels and not (known == numbers).all():
            raise MalformedFile(
                self._file,
                None,
                f"integers such as {labels[0]} are ids and labels in "
                f"{self._maps[self._kind][0].name}; "
                f"give --ids or --labels",
            )
        return may_be_ids and not may_be_labels

    def _as_ids(self, column: pl.Series) -> pl.Series:
        if len(self._labels.all):
            return self._to_ids(self._labels.all).gather(column)
        return self._to_ids(column)

    def _to_ids(self, column: pl.Series) -> pl.Series:
        if column.dtype == pl.String:
            is_bad = ~column.str.contains(r"^(0|[1-9][0-9]{0,17})$")
            if is_bad.any():
                raise MalformedFile(
                    self._file,
                    None,
                    f"{column.filter(is_bad)[0]!r} is not an id; give ids as integers from 0 on, "
                    f"or give --labels",
                )
            return column.cast(pl.Int64)
        if len(column) and int(column.min()) < 0:  # type: ignore[arg-type]
            raise MalformedFile(self._file, None, f"has id {column.min()!r}; ids are 0 or more")
        return column

    def _check_known(self, labels: pl.Series, ids: pl.Series, file: Path) -> None:
        if ids.null_count() == 0:
            return
        unknown = self._labels.all.gather(labels.filter(ids.is_null()))
        other = next((each for kind, each in self._maps.items() if kind != self._kind), None)
        if other is not None and other[1].ids(unknown.head(1)).null_count() == 0:
            raise MalformedFile(
                self._file,
                None,
                f"{unknown[0]!r} stands in a column of {self._kind}, but is in {other[0].name}; "
                f"give "
                f"the order of the columns, as in --columns head,tail,relation",
            )
        raise MalformedFile(
            self._file,
            None,
            f"{len(unknown)} labels of {self._kind} are not in {file.name}, such as "
            f"{unknown[0]!r}; add them, or give --strip if it has blanks around it",
        )


def _joined(parts: list[pl.Series]) -> pl.Series:
    """Join the columns of several files; integers may be of different widths."""
    if len({part.dtype for part in parts}) > 1:
        parts = [part.cast(pl.Int64) if part.dtype.is_integer() else part for part in parts]
    return pl.concat(parts)


def _names_of_maps(kind: str) -> tuple[str, ...]:
    return {
        "entities": ("entities.dict", "entity2id.txt"),
        "relations": ("relations.dict", "relation2id.txt"),
    }[kind]


def _log_unseen(parts: list[Table], mapped: pl.DataFrame, labels: Mapping[str, Labels]) -> None:
    frame = pl.concat([table.frame for table in parts])
    name = next(name for name in COLUMNS if mapped[name].null_count())
    own = labels[next(kind for kind, names in _KINDS.items() if name in names)]
    logger.warning(
        "%s: %d of %d triples have a label that does not occur in training; left out, such as %r",
        parts[0].path,
        len(mapped) - len(mapped.drop_nulls()),
        len(mapped),
        own.all[frame[name].filter(mapped[name].is_null())[0]],
    )
