"""The ids of entities and relations: as files give them, or by the order of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.checks import all_integers
from negserve_server.graph.readers.formats.columns import Table
from negserve_server.graph.readers.formats.options import ReadOptions
from negserve_server.graph.readers.labels import Labels
from negserve_server.graph.vocabulary import Vocabulary

_OPTIONS = {"entities": "--entity-ids", "relations": "--relation-ids"}


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


class Numbering:
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
        if not all_integers(labels):
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
