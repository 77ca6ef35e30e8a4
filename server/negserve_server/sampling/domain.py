"""What may be drawn: the cells of a configuration over a graph, as arrays for the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from negserve_server.addresses import address_of
from negserve_server.errors import InvalidConfiguration
from negserve_server.index import FilterIndex, PairIndex
from negserve_server.sampling.batch import narrowest_dtype
from negserve_server.sampling.candidates import Candidates, distinct_pairs
from negserve_server.sampling.config import SLOTS, Kind, SamplerConfig
from negserve_server.sampling.kernels import places
from negserve_server.sampling.statistics import RelationStatistics
from negserve_server.sampling.weights import Weights, degree_weights


@dataclass(frozen=True, slots=True)
class Graph:
    """What a domain needs of a graph.

    :ivar training: distinct training triples inside the id space, int64, shape (n, 3)
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar heads: type constraints of the heads, distinct (relation, entity), sorted, int64, shape
        (m, 2); None if there are none
    :ivar tails: likewise of the tails
    """

    training: NDArray[np.int64]
    num_entities: int
    num_relations: int
    heads: NDArray[np.int64] | None = None
    tails: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A slot of a kind.

    :ivar slot: 0 head, 1 relation, 2 tail
    :ivar candidates: ids that may be drawn
    :ivar weights: their weights; None if uniform
    :ivar known: ranks of the known values, by the pair that stays
    :ivar units_before: see :meth:`Weights.units_before`; empty if uniform
    """

    slot: int
    candidates: Candidates
    weights: Weights | None
    known: PairIndex
    units_before: NDArray[np.uint32]


class Domain:
    """Candidates, weights, known values and shares of all cells; what is costly of a sampler.

    Does not depend on k, seed, replacement, chunks or what is asked for along, so that samplers
    share it. Immutable.

    :param config: what to draw
    :param graph: where to draw it from
    :param filter_index: index over exactly the splits of ``config.filter_splits``; None if
        those are empty
    :raises InvalidConfiguration: if the graph can't serve the configuration
    :raises ValueError: if the index does not fit the configuration
    """

    def __init__(
        self, config: SamplerConfig, graph: Graph, filter_index: FilterIndex | None
    ) -> None:
        if (filter_index is not None) != config.filtered:
            raise ValueError("give filter_index if and only if config has filter_splits")
        self._graph = graph
        self.num_ids = (graph.num_entities, graph.num_relations, graph.num_entities)
        self._check(config)
        self._subset = None if config.candidates is None else np.array(config.candidates)
        #: In the order of the kernels: by slot, then by part of the mixture.
        self.cells = [
            self._cell(config, kind, SLOTS.index(slot), filter_index)
            for slot in config.corruption_scheme
            for kind, _ in config.parts
        ]
        #: Where each cell ends among all, in 2^-32, uint64, shape (num_relations, cells).
        self.cell_ends = self._make_ends(config)
        #: Where kernels find the cells' arrays, uint64, shape (cells, 14); see :mod:`.places`.
        self.places = np.stack([self._place(cell) for cell in self.cells])
        #: Whether every id of its slot may be drawn in each cell, uniformly.
        self.is_plain = all(
            cell.candidates.is_every_id and cell.weights is None for cell in self.cells
        )
        #: Narrowest dtype of any value that may be drawn.
        self.dtype = narrowest_dtype(max(self.num_ids[cell.slot] for cell in self.cells))

    def _check(self, config: SamplerConfig) -> None:
        for slot in config.corruption_scheme:
            if self.num_ids[SLOTS.index(slot)] < 2:
                raise InvalidConfiguration(
                    "corruption_scheme",
                    config.corruption_scheme,
                    f"the graph has only one id for the {slot}, so nothing can replace it",
                )
        if config.candidates is not None and config.candidates[-1] >= self.num_ids[0]:
            raise InvalidConfiguration(
                "candidates",
                config.candidates[-1],
                f"the graph has {self.num_ids[0]} entities, ids 0 to {self.num_ids[0] - 1}",
                limit=self.num_ids[0] - 1,
            )
        if "typed" in dict(config.parts) and self._graph.heads is None:
            raise InvalidConfiguration(
                "kind", config.kind, "the dataset has no type constraints; add a file of them"
            )

    def _cell(
        self, config: SamplerConfig, kind: Kind, slot: int, filter_index: FilterIndex | None
    ) -> Cell:
        subset = self._subset if SLOTS[slot] != "relation" else None
        weights = None
        if kind == "degree":
            weights = self._weights(slot, config.alpha, subset)
            candidates = Candidates.same(weights.ids, self._graph.num_relations)
        else:
            candidates = self._candidates(kind, slot, subset)
        known = PairIndex.empty()
        if filter_index is not None:
            known = self._known(slot, candidates, weights, filter_index)
        units_before = np.empty(0, dtype=np.uint32)
        if weights is not None:
            units_before = weights.units_before(known)
        return Cell(slot, candidates, weights, known, units_before)

    def _candidates(self, kind: Kind, slot: int, subset: NDArray[np.int64] | None) -> Candidates:
        graph = self._graph
        if kind in {"basic", "bernoulli"}:
            if subset is None:
                return Candidates.every_id(graph.num_relations, self.num_ids[slot])
            return Candidates.same(subset, graph.num_relations)
        if kind == "pseudotyped":
            pairs = distinct_pairs(graph.training[:, 1], graph.training[:, slot])
            others: NDArray[np.int64] | None = np.empty(0, dtype=np.int64)
            is_listed = np.zeros(graph.num_relations, dtype=np.bool_)
        else:
            constraints = graph.heads if slot == 0 else graph.tails
            assert constraints is not None
            pairs, others = constraints, subset
            is_listed = np.bincount(pairs[:, 0], minlength=graph.num_relations) > 0
        if subset is not None:
            pairs = pairs[np.isin(pairs[:, 1], subset)]
        candidates = Candidates.per_relation(
            pairs, graph.num_relations, self.num_ids[slot], others=others
        )
        # A relation that is constrained to entities outside the subset has no candidates.
        is_emptied = is_listed & (np.bincount(pairs[:, 0], minlength=graph.num_relations) == 0)
        candidates.starts[is_emptied] = 0
        candidates.counts[is_emptied] = 0
        return candidates

    def _weights(self, slot: int, alpha: float, subset: NDArray[np.int64] | None) -> Weights:
        num_ids = self.num_ids[slot]
        chosen = np.arange(num_ids) if subset is None else subset
        frequencies = np.bincount(self._graph.training[:, slot], minlength=num_ids)[chosen]
        units = np.zeros(num_ids, dtype=np.int64)
        units[chosen] = degree_weights(frequencies, alpha)
        if not units.any():
            raise InvalidConfiguration(
                "candidates",
                f"{len(chosen)} entities",
                f"none of them is a {SLOTS[slot]} of a training triple, so all weigh 0; "
                f"choose others, or alpha=0",
            )
        return Weights.of(units)

    def _known(
        self, slot: int, candidates: Candidates, weights: Weights | None, index: FilterIndex
    ) -> PairIndex:
        if candidates.is_every_id:
            return index.by_slot(SLOTS[slot])
        # Ranks among the candidates take the place of ids; what is no candidate is dropped.
        triples = index.triples
        if weights is not None:
            ranks = weights.ranks[triples[:, slot]].astype(np.int64)
            found = ranks != places.NO_RANK_32
        else:
            ranks, found = candidates.ranks(triples[:, 1], triples[:, slot])
        first, second = (column for column in range(3) if column != slot)
        rows = np.stack([triples[found, first], triples[found, second], ranks[found]], axis=1)
        if slot == 1:
            return PairIndex.build(rows, int(candidates.counts[0]))
        # The relation is the first of (relation, tail) and the second of (head, relation).
        relation_column = 0 if slot == 0 else 1
        return PairIndex.build(rows, candidates.counts, relation_column=relation_column)

    def _place(self, cell: Cell) -> NDArray[np.uint64]:
        place = np.zeros(places.NUM_COLUMNS, dtype=np.uint64)
        place[places.SLOT] = cell.slot
        place[places.NUM_IDS] = self.num_ids[cell.slot]
        place[places.TABLE] = address_of(cell.known.table)
        place[places.TABLE_MASK] = len(cell.known.table) - 1
        place[places.LISTS] = address_of(cell.known.lists)
        place[places.STARTS] = address_of(cell.candidates.starts)
        if not cell.candidates.is_every_id:
            place[places.COUNTS] = address_of(cell.candidates.counts)
            place[places.IDS] = address_of(cell.candidates.ids)
        if cell.weights is not None:
            place[places.UNIT_STARTS] = address_of(cell.weights.unit_starts)
            place[places.UNITS_BEFORE] = address_of(cell.units_before)
            place[places.GUIDE] = address_of(cell.weights.guide)
            place[places.GUIDE_SHIFT] = cell.weights.guide_shift
            place[places.GUIDE_STEPS] = cell.weights.guide_steps
            place[places.RANKS] = address_of(cell.weights.ranks)
        return place

    @cached_property
    def member_places(self) -> NDArray[np.uint64]:
        """Where kernels find the cells' sets of known values, made on first use.

        uint64, shape (cells, 2): address, and buckets; see :mod:`negserve_server.index.members`.
        """
        sets = [cell.known.members for cell in self.cells]
        return np.array([(address_of(members), len(members)) for members in sets], dtype=np.uint64)

    def _make_ends(self, config: SamplerConfig) -> NDArray[np.uint64]:
        num_parts = len(config.parts)
        widths = np.zeros((self._graph.num_relations, len(self.cells)), dtype=np.uint64)
        for part, (kind, shares) in enumerate(config.parts):
            ends = self._slot_ends(kind, self.cells[part::num_parts])
            width = np.diff(ends, axis=1, prepend=np.uint64(0))
            widths[:, part::num_parts] = width * np.uint64(shares)
        total = np.uint64(sum(shares for _, shares in config.parts))
        result: NDArray[np.uint64] = np.cumsum(widths, axis=1) // total
        return np.ascontiguousarray(result)

    def _slot_ends(self, kind: Kind, cells: list[Cell]) -> NDArray[np.uint64]:
        """Where the slots of one kind end, in 2^-32, shape (num_relations, slots)."""
        num_relations = self._graph.num_relations
        if kind == "bernoulli" and len(cells) == 2:
            share = RelationStatistics.of(self._graph.training, num_relations).head_share
            return np.stack([share, np.full_like(share, 2**32)], axis=1)
        weights = np.ones((num_relations, len(cells)), dtype=np.uint64)
        if kind in {"pseudotyped", "typed"}:
            weights = np.stack([cell.candidates.counts for cell in cells], axis=1).astype(np.uint64)
            weights[weights.sum(axis=1) == 0] = 1  # no candidates: slots evenly
        ends = np.cumsum(weights, axis=1)
        # floor(2^32 ends / total) in two steps, since the product may pass 64 bits.
        half = np.uint64(16)
        high, rest = np.divmod(ends << half, ends[:, -1:])
        return (high << half) + (rest << half) // ends[:, -1:]
