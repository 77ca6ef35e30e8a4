"""The samplers of a graph, and the tables that they share."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import replace
from functools import cached_property, lru_cache

from negserve.types.config import SamplerConfig
from negserve_server.graph.filter_indexes import FilterIndexes
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.sampling import DrawTables, Graph, Sampler
from negserve_server.sampling.sampler import in_version
from negserve_server.tables import GraphTables

#: Opened configurations that are remembered.
_MOST_OPENED = 256


class OpenedSamplers:
    """Makes samplers; what is costly is shared by all that need it, and stays after the last.

    :param parts: the graph
    :param indexes: its filter indexes
    :param tables: its tables
    """

    def __init__(self, parts: GraphParts, indexes: FilterIndexes, tables: GraphTables) -> None:
        self._parts = parts
        self._indexes = indexes
        self._tables = tables
        #: Keys of the tables, and the tables, of configurations that were opened, with seed 0.
        self._opened: dict[SamplerConfig, tuple[Hashable, weakref.ref[DrawTables]]] = {}

    @cached_property
    def graph(self) -> Graph:
        """The graph as samplers see it."""
        parts = self._parts
        constraints = parts.type_constraints
        return Graph(
            training=parts.columns["training"],
            num_entities=parts.num_entities,
            num_relations=parts.num_relations,
            heads=constraints.heads if constraints is not None else None,
            tails=constraints.tails if constraints is not None else None,
            tables=self._tables,
            counts=parts.relation_counts,
        )

    def open(self, config: SamplerConfig) -> Sampler:
        """Make the sampler of a configuration.

        :raises InvalidRequestError: if this package or the graph can't serve it
        :raises TablesFull: if there is no room for what it needs
        """
        config = in_version(config)
        if config.filter_splits:
            self._indexes.check("filter_splits", config.filter_splits)
        index = self._indexes.of(config.filter_splits) if config.filtered else None
        digest = None
        given = config.candidate_set
        if given is not None:
            # Samplers with equal candidates share them.
            digest = given.digest
            shared = self._tables.get(("ids", digest), lambda: given, num_bytes=given.nbytes)
            config = replace(config, candidates=shared)
        key = (
            "draw tables",
            config.parts,
            config.alpha,
            config.corruption_scheme,
            digest,
            config.filter_splits,
        )
        draw_tables = self._tables.get(
            key, lambda: DrawTables(config, self.graph, index), keep=True
        )
        sampler = Sampler(config, draw_tables)
        self._tables.hold(key, sampler)
        if given is None:
            if len(self._opened) >= _MOST_OPENED:
                self._opened.clear()
            self._opened[_without_seed(config)] = key, weakref.ref(draw_tables)
        return sampler

    def open_again(self, config: SamplerConfig) -> Sampler | None:
        """Make the sampler of a configuration that was opened before with any seed, in no time.

        :return: None if it was not, or if what is costly is gone since
        :raises InvalidRequestError: for another algorithm version
        """
        if config.candidates is not None:
            return None
        config = _in_version(config)
        opened = self._opened.get(_without_seed(config))
        draw_tables = None if opened is None else opened[1]()
        if opened is None or draw_tables is None:
            return None
        sampler = Sampler(config, draw_tables)
        self._tables.hold(opened[0], sampler)
        return sampler


# Each new configuration is checked anew, which takes longer than all else of opening one again.
# Without candidates, which may be large, it is small enough to be remembered.
_in_version = lru_cache(_MOST_OPENED)(in_version)


@lru_cache(_MOST_OPENED)
def _without_seed(config: SamplerConfig) -> SamplerConfig:
    return replace(config, seed=0)
