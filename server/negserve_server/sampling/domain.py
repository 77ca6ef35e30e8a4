"""What may be drawn: the cells of a configuration over a graph, as arrays for the kernels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from negserve.types.invalid import invalid_configuration
from negserve_server.index import FilterIndex, PairIndex
from negserve_server.index.members import members_bytes
from negserve_server.jit.addresses import address_of
from negserve_server.sampling.batch import narrowest_dtype
from negserve_server.sampling.candidates import Candidates, distinct_pairs
from negserve_server.sampling.config import SLOTS, Kind, SamplerConfig
from negserve_server.sampling.id_set import IdSet
from negserve_server.sampling.kernels import places
from negserve_server.sampling.statistics import RelationStatistics
from negserve_server.sampling.weights import Frequencies, Ranking, Weights, ranking_key
from negserve_server.tables import TABLES, GraphTables

#: Relations whose ends are computed at a time: what is needed in between stays small.
_BLOCK = 2**16

#: Kinds whose slots have the same shares in all relations, and those in which shares follow the
#: number of candidates.
_ALIKE = {"basic", "degree"}
_COUNTING = {"pseudotyped", "typed"}

_NOTHING = PairIndex.empty()
_NO_UNITS: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Graph:
    """What a domain needs of a graph.

    :ivar training: distinct training triples inside the id space, int64, shape (n, 3)
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar heads: type constraints of the heads, distinct (relation, entity), sorted, int64, shape
        (m, 2); None if there are none
    :ivar tails: likewise of the tails
    :ivar tables: what samplers over the graph share
    """

    training: NDArray[np.int64]
    num_entities: int
    num_relations: int
    heads: NDArray[np.int64] | None = None
    tails: NDArray[np.int64] | None = None
    tables: GraphTables = field(default_factory=lambda: GraphTables(TABLES))

    @property
    def statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        return self.tables.get(
            "statistics",
            lambda: RelationStatistics.of(self.training, self.num_relations),
            num_bytes=RelationStatistics.num_bytes(self.num_relations),
            keep=True,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """A slot of a kind.

    :ivar slot: 0 head, 1 relation, 2 tail
    :ivar candidates: ids that may be drawn
    :ivar weights: their weights; None if uniform
    :ivar known: ranks of the known values, by the pair that stays
    :ivar known_name: which table ``known`` is
    :ivar units_before: see :meth:`Weights.units_before`; empty if uniform
    """

    slot: int
    candidates: Candidates
    weights: Weights | None = None
    known: PairIndex = _NOTHING
    known_name: Hashable = None
    units_before: NDArray[np.uint32] = field(default_factory=lambda: _NO_UNITS)


class Domain:
    """Candidates, weights, known values and shares of all cells; what is costly of a sampler.

    Does not depend on k, seed, replacement, chunks or what is asked for along, so that samplers
    share it. Immutable. Its arrays are tables of the graph: each is there once, whichever domains
    use it, and is gone with the last of them.

    :param config: what to draw
    :param graph: where to draw it from
    :param filter_index: index over exactly the splits of ``config.filter_splits``; None if
        those are empty
    :raises InvalidRequestError: if the graph can't serve the configuration
    :raises TablesFull: if there is no room for its tables
    :raises ValueError: if the index does not fit the configuration
    """

    def __init__(
        self, config: SamplerConfig, graph: Graph, filter_index: FilterIndex | None
    ) -> None:
        if (filter_index is not None) != config.filtered:
            raise ValueError("give filter_index if and only if config has filter_splits")
        self._graph = graph
        self._tables = graph.tables
        self.num_ids = (graph.num_entities, graph.num_relations, graph.num_entities)
        self._check(config)
        #: In the order of the kernels: by slot, then by part of the mixture.
        self.cells = [
            self._cell(config, kind, SLOTS.index(slot), filter_index)
            for slot in config.corruption_scheme
            for kind, _ in config.parts
        ]
        self._ends = self._tables.get(
            ("ends", config.parts, config.corruption_scheme, _ends_subset(config)),
            lambda: self._make_ends(config),
            num_bytes=8 * len(self.cells) * self._num_rows(config),
        )
        #: Where kernels find the cells' arrays, uint64, shape (cells, 15); see :mod:`.places`.
        self.places = np.stack([self._place(cell) for cell in self.cells])
        #: Whether every id of its slot may be drawn in each cell, uniformly.
        self.is_plain = all(
            cell.candidates.is_every_id and cell.weights is None for cell in self.cells
        )
        #: Narrowest dtype of any value that may be drawn.
        self.dtype = narrowest_dtype(max(self.num_ids[cell.slot] for cell in self.cells))

    @property
    def nbytes(self) -> int:
        """Memory held besides the tables that it uses, in bytes."""
        return self.places.nbytes

    @property
    def cell_ends(self) -> NDArray[np.uint64]:
        """Where each cell ends among all, in 2^-32, shape (num_relations, cells), read-only."""
        return np.broadcast_to(self._ends, (self._graph.num_relations, len(self.cells)))

    @property
    def ends_place(self) -> tuple[np.uint64, np.uint64]:
        """Address of the ends, and bytes from those of a relation to the next one's."""
        stride = self._ends.strides[0] if len(self._ends) > 1 else 0
        return address_of(self._ends), np.uint64(stride)

    def _check(self, config: SamplerConfig) -> None:
        for slot in config.corruption_scheme:
            if self.num_ids[SLOTS.index(slot)] < 2:
                raise invalid_configuration(
                    "corruption_scheme",
                    config.corruption_scheme,
                    f"the graph has only one id for the {slot}, so nothing can replace it",
                )
        if config.candidates is not None and config.candidates[-1] >= self.num_ids[0]:
            raise invalid_configuration(
                "candidates",
                config.candidates[-1],
                f"the graph has {self.num_ids[0]} entities, ids 0 to {self.num_ids[0] - 1}",
                limit=self.num_ids[0] - 1,
            )
        if "typed" in dict(config.parts) and self._graph.heads is None:
            raise invalid_configuration(
                "kind", config.kind, "the dataset has no type constraints; add a file of them"
            )

    def _cell(
        self, config: SamplerConfig, kind: Kind, slot: int, index: FilterIndex | None
    ) -> Cell:
        num_relations = self._graph.num_relations
        subset = config.candidates if SLOTS[slot] != "relation" else None
        digest = None if subset is None else subset.digest
        weights = None
        if kind == "degree":
            name, weights = self._weights(slot, config.alpha, subset)
            candidates = Candidates.same(weights.ranking.ids, num_relations)
        elif kind in _COUNTING:
            name = (kind, slot, digest)
            candidates = self._by_relation(kind, slot, subset, name)
        elif subset is not None:
            name = ("subset", slot, digest)
            candidates = Candidates.same(subset.ids, num_relations)
        else:
            candidates = Candidates.every_id(num_relations, self.num_ids[slot])
            if index is None:
                return Cell(slot, candidates)
            known = index.by_slot(SLOTS[slot])
            return Cell(slot, candidates, None, known, (config.filter_splits, SLOTS[slot]))
        if index is None:
            return Cell(slot, candidates, weights)
        known_name = ("known", name, config.filter_splits)
        known = self._tables.get(
            known_name, lambda: _ranked(index.triples, slot, candidates, weights)
        )
        if weights is None:
            return Cell(slot, candidates, None, known, known_name)
        units_before = self._tables.get(
            ("units before", known_name, config.alpha),
            lambda: weights.units_before(known),
            num_bytes=known.lists.nbytes,
        )
        return Cell(slot, candidates, weights, known, known_name, units_before)

    def _by_relation(
        self, kind: Kind, slot: int, subset: IdSet | None, name: Hashable
    ) -> Candidates:
        graph = self._graph

        def make() -> Candidates:
            ids = None if subset is None else subset.ids
            constraints = graph.heads if slot == 0 else graph.tails
            if kind == "pseudotyped":
                pairs = distinct_pairs(graph.training[:, 1], graph.training[:, slot])
                others: NDArray[np.integer] | None = np.empty(0, dtype=np.uint32)
            else:
                assert constraints is not None
                pairs, others = constraints, ids
            relations = pairs[:, 0]
            if ids is not None:
                pairs = pairs[np.isin(pairs[:, 1], ids)]
            candidates = Candidates.per_relation(
                pairs, graph.num_relations, self.num_ids[slot], others=others
            )
            if kind == "typed" and ids is not None:
                # A relation that is constrained to entities outside the subset has no candidates.
                is_emptied = np.zeros(graph.num_relations, dtype=np.bool_)
                is_emptied[relations] = True
                is_emptied[pairs[:, 0]] = False
                candidates.starts[is_emptied] = 0
                candidates.counts[is_emptied] = 0
            return candidates

        return self._tables.get(
            ("candidates", name), make, num_bytes=Candidates.least_bytes(graph.num_relations)
        )

    def _weights(
        self, slot: int, alpha: float, subset: IdSet | None
    ) -> tuple[tuple[Hashable, ...], Weights]:
        """Give weights, and the name of their ranking, which exponents share."""
        num_ids = self.num_ids[slot]
        chosen = slice(None) if subset is None else subset.ids
        frequencies = np.bincount(self._graph.training[:, slot], minlength=num_ids)[chosen]
        distinct = Frequencies.of(frequencies)
        of_frequency = distinct.units(alpha)
        if not of_frequency.any():
            raise invalid_configuration(
                "candidates",
                f"{len(frequencies)} entities",
                f"none of them is a {SLOTS[slot]} of a training triple, so all weigh 0; "
                f"choose others, or alpha=0",
            )
        units = np.zeros(num_ids, dtype=np.int64)
        units[chosen] = of_frequency[distinct.owners]
        num_ranks = int(np.count_nonzero(units))
        digest = None if subset is None else subset.digest
        name = ("degree", slot, digest, ranking_key(of_frequency))
        ranking = self._tables.get(
            ("ranking", name), lambda: Ranking.of(units), num_bytes=4 * (num_ids + num_ranks)
        )
        weights = self._tables.get(
            ("weights", name, alpha),
            lambda: Weights.of(units, ranking),
            num_bytes=Weights.least_bytes(num_ranks),
        )
        return name, weights

    def _place(self, cell: Cell) -> NDArray[np.uint64]:
        place = np.zeros(places.NUM_COLUMNS, dtype=np.uint64)
        place[places.SLOT] = cell.slot
        place[places.NUM_IDS] = self.num_ids[cell.slot]
        place[places.TABLE] = address_of(cell.known.table)
        place[places.TABLE_MASK] = len(cell.known.table) - 1
        place[places.LISTS] = address_of(cell.known.lists)
        if not cell.candidates.is_every_id:
            # Held once for all relations, they are one number, whose slice is contiguous.
            rows = slice(1 if cell.candidates.are_alike else None)
            place[places.STARTS] = address_of(cell.candidates.starts[rows])
            place[places.COUNTS] = address_of(cell.candidates.counts[rows])
            place[places.STRIDE] = 0 if cell.candidates.are_alike else 1
            place[places.IDS] = address_of(cell.candidates.ids)
        if cell.weights is not None:
            place[places.UNIT_STARTS] = address_of(cell.weights.unit_starts)
            place[places.UNITS_BEFORE] = address_of(cell.units_before)
            place[places.GUIDE] = address_of(cell.weights.guide)
            place[places.GUIDE_SHIFT] = cell.weights.guide_shift
            place[places.GUIDE_STEPS] = cell.weights.guide_steps
            place[places.RANKS] = address_of(cell.weights.ranking.ranks)
        return place

    @cached_property
    def _members(self) -> list[NDArray[np.uint64]]:
        return [
            self._tables.get(
                ("members", cell.known_name),
                cell.known.members,
                num_bytes=members_bytes(cell.known.num_values),
            )
            for cell in self.cells
        ]

    @cached_property
    def member_places(self) -> NDArray[np.uint64]:
        """Where kernels find the cells' sets of known values, made on first use.

        uint64, shape (cells, 2): address, and buckets; see :mod:`negserve_server.index.members`.

        :raises TablesFull: if there is no room for them
        """
        sets = [(address_of(members), len(members)) for members in self._members]
        return np.array(sets, dtype=np.uint64)

    def _num_rows(self, config: SamplerConfig) -> int:
        """Say how many relations have ends of their own."""
        if len(config.corruption_scheme) == 1 or {kind for kind, _ in config.parts} <= _ALIKE:
            return 1
        return self._graph.num_relations

    def _make_ends(self, config: SamplerConfig) -> NDArray[np.uint64]:
        """Where each cell ends, shape (num_relations, cells), or (1, cells) for all relations."""
        num_parts = len(config.parts)
        result = np.empty((self._num_rows(config), len(self.cells)), dtype=np.uint64)
        total = np.uint64(sum(shares for _, shares in config.parts))
        for first in range(0, len(result), _BLOCK):
            rows = result[first : first + _BLOCK]
            for part, (kind, shares) in enumerate(config.parts):
                ends = self._slot_ends(kind, self.cells[part::num_parts], first, len(rows))
                width = np.diff(ends, axis=1, prepend=np.uint64(0))
                rows[:, part::num_parts] = width * np.uint64(shares)
            rows[:] = np.cumsum(rows, axis=1) // total
        return result

    def _slot_ends(
        self, kind: Kind, cells: list[Cell], first: int, num_rows: int
    ) -> NDArray[np.uint64]:
        """Where the slots of one kind end, in 2^-32, shape (num_rows, slots)."""
        end = first + num_rows
        if kind == "bernoulli" and len(cells) == 2:
            share = self._graph.statistics.run(first, end).head_share
            return np.stack([share, np.full_like(share, 2**32)], axis=1)
        weights = np.ones((num_rows, len(cells)), dtype=np.uint64)
        if kind in _COUNTING:
            counts = [cell.candidates.counts[first:end] for cell in cells]
            weights = np.stack(counts, axis=1).astype(np.uint64)
            weights[weights.sum(axis=1) == 0] = 1  # no candidates: slots evenly
        ends = np.cumsum(weights, axis=1)
        # floor(2^32 ends / total) in two steps, since the product may pass 64 bits.
        half = np.uint64(16)
        high, rest = np.divmod(ends << half, ends[:, -1:])
        return (high << half) + (rest << half) // ends[:, -1:]


def _ends_subset(config: SamplerConfig) -> bytes | None:
    """Say which subset the ends of cells depend on, for kinds that count candidates."""
    if config.candidates is None or not {kind for kind, _ in config.parts} & _COUNTING:
        return None
    return config.candidates.digest


def _ranked(
    triples: NDArray[np.int64], slot: int, candidates: Candidates, weights: Weights | None
) -> PairIndex:
    """Index known triples, with ranks among the candidates in place of ids.

    What is no candidate is dropped.
    """
    if weights is not None:
        ranks = weights.ranking.ranks[triples[:, slot]].astype(np.int64)
        found = ranks != places.NO_RANK_32
    else:
        ranks, found = candidates.ranks(triples[:, 1], triples[:, slot])
    first, second = (column for column in range(3) if column != slot)
    rows = np.stack([triples[found, first], triples[found, second], ranks[found]], axis=1)
    if candidates.are_alike:
        return PairIndex.build(rows, int(candidates.counts[0]))
    # The relation is the first of (relation, tail) and the second of (head, relation).
    relation_column = 0 if slot == 0 else 1
    return PairIndex.build(rows, candidates.counts, relation_column=relation_column)
