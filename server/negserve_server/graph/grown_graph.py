"""A graph that grows: triples of files are added, and all ids stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from negserve.types.config import SPLITS
from negserve.types.triples import narrowest_dtype
from negserve_server.errors import MalformedFile
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.readers import BaseIds, ReadOptions, read_graph
from negserve_server.triple_columns import TripleColumns


@dataclass(frozen=True, slots=True)
class GrownGraph:
    """A graph with triples added.

    :ivar parts: the graph
    :ivar num_new: triples that it had not, by split of the files
    :ivar num_known: triples that it had already in the same split, likewise
    """

    parts: GraphParts
    num_new: Mapping[str, int]
    num_known: Mapping[str, int]


def grow(base: GraphParts, path: Path, options: ReadOptions) -> GrownGraph:
    """Add the triples of files to a graph.

    Entities and relations of the graph keep their ids. Further labels of the added training triples
    get the next ids, sorted. Type constraints stay: a new relation allows every entity.

    :param base: the graph, which is not changed; splits without added triples share its memory
    :param path: a file of training triples, or a folder
    :param options: how it is read
    :raises MalformedFile: naming file, line, what was expected and the remedy
    """
    if options.fractions is not None or options.entity_ids or options.relation_ids:
        raise MalformedFile(
            path,
            None,
            "is added to a graph, which has its splits and ids; leave out --fractions, "
            "--entity-ids and --relation-ids",
        )
    ids = BaseIds(base.entities, base.relations, base.num_entities, base.num_relations)
    added = read_graph(path, options, ids)
    if added.constraints is not None:
        raise MalformedFile(
            added.constraints,
            None,
            "type constraints are those of the graph that grows; move the file to another folder",
        )
    sizes = added.num_entities, added.num_relations
    columns: dict[str, TripleColumns] = {}
    num_new: dict[str, int] = {}
    num_known: dict[str, int] = {}
    for split in SPLITS:
        before, new = base.columns.get(split), added.splits.get(split)
        if before is not None and new is not None:
            columns[split] = TripleColumns.union([before, new], *sizes)
        elif before is not None:
            columns[split] = _in_space(before, *sizes)
        elif new is not None:
            columns[split] = new
        if new is not None:
            num_new[split] = len(columns[split]) - (0 if before is None else len(before))
            num_known[split] = len(new) - num_new[split]
    return GrownGraph(
        replace(
            base,
            columns=columns,
            num_entities=added.num_entities,
            num_relations=added.num_relations,
            entities=added.entities,
            relations=added.relations,
            num_unseen={
                split: base.num_unseen.get(split, 0) + added.num_unseen.get(split, 0)
                for split in columns
            },
            # Of the graph before.
            split_fingerprints=None,
            type_constraints_fingerprint=None,
            relation_counts=None,
            indexes={},
        ),
        num_new,
        num_known,
    )


def _in_space(columns: TripleColumns, num_entities: int, num_relations: int) -> TripleColumns:
    """Give columns as wide as an id space needs: the same ones, if they are."""
    dtypes = narrowest_dtype(num_entities), narrowest_dtype(num_relations)
    if (columns.heads.dtype, columns.relations.dtype) == dtypes:
        return columns
    return TripleColumns(
        columns.heads.astype(dtypes[0]),
        columns.relations.astype(dtypes[1]),
        columns.tails.astype(dtypes[0]),
    )
