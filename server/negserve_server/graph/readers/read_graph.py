"""From the files of a graph to triples of ids."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers import checks
from negserve_server.graph.readers.formats.columns import Table
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions
from negserve_server.graph.readers.id_maps import read_id_map
from negserve_server.graph.readers.labels import Labels, encoded
from negserve_server.graph.readers.numbering import BaseIds, Numbering
from negserve_server.graph.readers.sources import divide_name, find_sources, is_counted
from negserve_server.graph.readers.tables import read_tables
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.triple_columns import TripleColumns

logger = logging.getLogger(__name__)

_KINDS = {"entities": ("head", "tail"), "relations": ("relation",)}


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


def read_graph(path: Path, options: ReadOptions, base: BaseIds | None = None) -> ReadGraph:
    """Read a graph.

    :param path: a file of training triples, or a folder
    :param base: ids that it keeps; None for ids of its own
    :raises MalformedFile: naming file, line, what was expected and the remedy
    :raises MissingLibraryError: for RDF without the extra ``rdf``
    """
    sources = find_sources(path, options)
    tables = read_tables(sources, options)
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
        numbered = Numbering(kind, names, tables, maps, options, labels[kind], base)
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
    if not maps and not checks.all_integers(seen):
        checks.check_order(training[0], *(labels[kind].training for kind in _KINDS))
    every = [table for parts in tables.values() for table in parts]
    for kind, each in labels.items():
        if kind not in maps:
            checks.check_spelling(every, each.all, _KINDS[kind], options)
    return labels


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
