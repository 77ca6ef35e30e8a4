"""The filter indexes of a graph."""

from __future__ import annotations

from collections.abc import Sequence

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import SPLITS
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.index import FilterIndex
from negserve_server.tables import GraphTables
from negserve_server.triple_columns import TripleColumns


class FilterIndexes:
    """Indexes over any choice of splits, each built on first use.

    That of the training triples stays as long as the graph, others are tables.

    :param parts: the graph
    :param tables: its tables
    """

    def __init__(self, parts: GraphParts, tables: GraphTables) -> None:
        self._parts = parts
        self._tables = tables
        self._of_training = self._make(("training",))

    def of(self, splits: Sequence[str]) -> FilterIndex:
        """Give the index over some splits.

        :raises InvalidRequestError: for no split, or one that the graph has not
        :raises TablesFull: if there is no room for it
        """
        self.check("splits", splits)
        columns = self._parts.columns
        chosen = tuple(name for name in SPLITS if name in splits)
        if chosen == ("training",):
            return self._of_training
        own_bytes = 0 if len(chosen) == 1 else max(columns[name].nbytes for name in chosen)
        return self._tables.get(
            ("index", chosen), lambda: self._make(chosen), num_bytes=own_bytes, keep=True
        )

    def check(self, field: str, splits: Sequence[str]) -> None:
        """Check that splits are some of the graph's, at least one.

        :param field: what names them
        :raises InvalidRequestError: naming those that it has
        """
        columns = self._parts.columns
        if not splits or any(name not in columns for name in splits):
            had = tuple(columns)
            raise invalid_configuration(
                field, tuple(splits), f"this graph has {', '.join(had)}", limit=had
            )

    def _make(self, chosen: tuple[str, ...]) -> FilterIndex:
        parts = self._parts
        sizes = parts.num_entities, parts.num_relations
        return FilterIndex(
            TripleColumns.union([parts.columns[name] for name in chosen], *sizes),
            num_entities=parts.num_entities,
            num_relations=parts.num_relations,
            owns_triples=len(chosen) > 1,
            tables=self._tables,
            name=chosen,
            usual_slots=("head", "tail") if chosen == ("training",) else (),
            made=parts.indexes.get(chosen),
        )
