"""Draw tables: candidates, weights, known values and shares of each cell, for the kernels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import SLOTS, SamplerConfig
from negserve.types.kinds import KINDS, Kind
from negserve.types.triples import narrowest_dtype
from negserve_server.index import FilterIndex, PairIndex, Pairs
from negserve_server.index.members import MemberSet, member_bytes
from negserve_server.jit.addresses import address_of
from negserve_server.sampling.candidates import Candidates
from negserve_server.sampling.graph import Graph
from negserve_server.sampling.kernels.records import cell_table
from negserve_server.sampling.kinds import DISTRIBUTIONS
from negserve_server.sampling.kinds.mixture import mixed_shares
from negserve_server.sampling.weights import Weights

#: Relations whose cumulative shares are computed at a time, which bounds temporary memory.
_BLOCK = 2**16

_NOTHING = PairIndex.empty()
_NO_UNITS: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class DrawCell:
    """A cell: a slot of one kind, or of one part of a mixture.

    :ivar slot: 0 head, 1 relation, 2 tail
    :ivar candidates: the ids that may be drawn
    :ivar weights: their weights; None if uniform
    :ivar known: ranks of the known values, by the pair that stays
    :ivar known_name: key of the table ``known``
    :ivar units_before: see :meth:`Weights.units_before`; empty if uniform
    """

    slot: int
    candidates: Candidates
    weights: Weights | None = None
    known: PairIndex = _NOTHING
    known_name: Hashable = None
    units_before: NDArray[np.uint32] = field(default_factory=lambda: _NO_UNITS)


class DrawTables:
    """Candidates, weights, known values and shares of all cells: the costly part of a sampler.

    Independent of k, seed, ``distinct``, ``chunk_size``, ``masked`` and ``log_q``, so samplers
    share it. Immutable. Its arrays are tables of the graph: each exists once, whichever draw
    tables use it, and is freed with the last of them.

    :param config: configuration of the samplers
    :param graph: the graph to draw from
    :param filter_index: index over exactly the splits of ``config.filter_splits``; None if
        there are none
    :raises InvalidRequestError: if the graph can't serve the configuration
    :raises TablesFull: if there is no room for the tables
    :raises ValueError: if ``filter_index`` does not match the configuration
    """

    def __init__(
        self, config: SamplerConfig, graph: Graph, filter_index: FilterIndex | None
    ) -> None:
        if (filter_index is not None) != config.filtered:
            raise ValueError("give filter_index if and only if config has filter_splits")
        self._graph = graph
        self._tables = graph.tables
        self.num_ids = graph.num_ids
        self._check(config)
        #: All cells, ordered by slot, then by part of the mixture.
        self.cells = [
            self._cell(config, kind, SLOTS.index(slot), filter_index)
            for slot in config.corruption_scheme
            for kind, _ in config.parts
        ]
        self._cumulative_shares = self._tables.get(
            ("cumulative shares", config.parts, config.corruption_scheme, _shares_subset(config)),
            lambda: self._make_cumulative_shares(config),
            num_bytes=8 * len(self.cells) * self._num_rows(config),
        )
        #: Addresses and sizes of the cells' arrays for the kernels, uint64, shape (cells, 16); see
        #: :mod:`negserve_server.sampling.kernels.records.cell_table`.
        self.cell_table = np.stack([self._cell_row(cell) for cell in self.cells])
        #: Whether each cell draws uniformly from all ids of its slot.
        self.is_plain = all(
            cell.candidates.is_every_id and cell.weights is None for cell in self.cells
        )
        #: Narrowest dtype that holds every value that may be drawn.
        self.dtype = narrowest_dtype(max(self.num_ids[cell.slot] for cell in self.cells))

    @property
    def nbytes(self) -> int:
        """Memory of its own in bytes, without the shared tables."""
        return self.cell_table.nbytes

    @property
    def cumulative_shares(self) -> NDArray[np.uint64]:
        """Cumulative shares of the cells in units of 2^-32, read-only.

        :return: uint64, shape (num_relations, cells); the last column is 2^32
        """
        shares = self._cumulative_shares
        return np.broadcast_to(shares, (self._graph.num_relations, len(self.cells)))

    @property
    def cumulative_shares_address(self) -> tuple[np.uint64, np.uint64]:
        """Address of the cumulative shares, and bytes from one relation to the next."""
        shares = self._cumulative_shares
        return address_of(shares), np.uint64(shares.strides[0] if len(shares) > 1 else 0)

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
        if self._graph.heads is None and any(
            KINDS[kind].needs_type_constraints for kind, _ in config.parts
        ):
            raise invalid_configuration(
                "kind", config.kind, "the dataset has no type constraints; add a file of them"
            )

    def _cell(
        self, config: SamplerConfig, kind: Kind, slot: int, index: FilterIndex | None
    ) -> DrawCell:
        subset = config.candidate_set if SLOTS[slot] != "relation" else None
        values = DISTRIBUTIONS[kind].slot_values(self._graph, slot, subset, config.alpha)
        candidates, weights = values.candidates, values.weights
        if index is None:
            return DrawCell(slot, candidates, weights)
        if values.name is None:
            known = index.by_slot(SLOTS[slot])
            return DrawCell(slot, candidates, None, known, (config.filter_splits, SLOTS[slot]))
        known_name = ("known", values.name, config.filter_splits)
        known = self._tables.get(
            known_name, lambda: _ranked(index.triples, slot, candidates, weights, self.num_ids)
        )
        if weights is None:
            return DrawCell(slot, candidates, None, known, known_name)
        units_before = self._tables.get(
            ("units before", known_name, config.alpha),
            lambda: weights.units_before(known),
            num_bytes=known.lists.nbytes,
        )
        return DrawCell(slot, candidates, weights, known, known_name, units_before)

    def _cell_row(self, cell: DrawCell) -> NDArray[np.uint64]:
        row = np.zeros(cell_table.NUM_FIELDS, dtype=np.uint64)
        row[cell_table.SLOT] = cell.slot
        row[cell_table.NUM_IDS] = self.num_ids[cell.slot]
        (
            row[cell_table.PAIR_DIRECTORY],
            row[cell_table.KNOWN_LISTS],
            row[cell_table.PAIR_LAYOUT],
            row[cell_table.PAIR_MULTIPLIER],
        ) = cell.known.address
        if not cell.candidates.is_every_id:
            # A stride of 0 is one number for all relations; its slice of length 1 is contiguous.
            relations = slice(1 if cell.candidates.are_alike else None)
            row[cell_table.CANDIDATE_STARTS] = address_of(cell.candidates.starts[relations])
            row[cell_table.CANDIDATE_COUNTS] = address_of(cell.candidates.counts[relations])
            row[cell_table.CANDIDATE_STRIDE] = 0 if cell.candidates.are_alike else 1
            row[cell_table.CANDIDATE_IDS] = address_of(cell.candidates.ids)
        if cell.weights is not None:
            row[cell_table.UNIT_STARTS] = address_of(cell.weights.unit_starts)
            row[cell_table.UNITS_BEFORE] = address_of(cell.units_before)
            row[cell_table.GUIDE] = address_of(cell.weights.guide)
            row[cell_table.GUIDE_SHIFT] = cell.weights.guide_shift
            row[cell_table.GUIDE_STEPS] = cell.weights.guide_steps
            row[cell_table.RANKS] = address_of(cell.weights.ranking.ranks)
        return row

    @cached_property
    def _member_sets(self) -> list[MemberSet]:
        return [
            self._tables.get(
                ("members", cell.known_name),
                cell.known.members,
                num_bytes=member_bytes(cell.known.member_layout or 0),
            )
            for cell in self.cells
        ]

    @property
    def has_members(self) -> bool:
        """Whether there can be a :attr:`member_table`: not with too many ids."""
        return all(cell.known.member_layout is not None for cell in self.cells)

    @cached_property
    def member_table(self) -> NDArray[np.uint64]:
        """Address and layout of each cell's set of known values, made on first use.

        uint64, shape (cells, 2); see :mod:`negserve_server.index.members`.

        :raises TablesFull: if there is no room for them
        """
        sets = [(address_of(members.lines), members.layout) for members in self._member_sets]
        return np.array(sets, dtype=np.uint64)

    def _num_rows(self, config: SamplerConfig) -> int:
        """Rows of the cumulative shares: 1 if all relations have the same."""
        if len(config.corruption_scheme) == 1 or _shares_depend_on(config) == {"slots"}:
            return 1
        return self._graph.num_relations

    def _make_cumulative_shares(self, config: SamplerConfig) -> NDArray[np.uint64]:
        """Cumulative shares, shape (num_relations, cells), or (1, cells) for all relations."""
        num_parts = len(config.parts)
        result = np.empty((self._num_rows(config), len(self.cells)), dtype=np.uint64)
        for first in range(0, len(result), _BLOCK):
            rows = slice(first, min(first + _BLOCK, len(result)))
            result[rows] = mixed_shares(
                [
                    self._slot_shares(kind, self.cells[part::num_parts], rows)
                    for part, (kind, _) in enumerate(config.parts)
                ],
                [shares for _, shares in config.parts],
            )
        return result

    def _slot_shares(
        self, kind: Kind, cells: list[DrawCell], relations: slice
    ) -> NDArray[np.uint64]:
        """Cumulative shares of the slots of one kind in units of 2^-32, shape (n, slots)."""
        candidates = [cell.candidates for cell in cells]
        shares = DISTRIBUTIONS[kind].slot_shares(self._graph, candidates, relations)
        sums = np.cumsum(shares, axis=1)
        # floor(2^32 sums / total) in two steps, since the product may exceed 64 bits.
        half = np.uint64(16)
        high, rest = np.divmod(sums << half, sums[:, -1:])
        return (high << half) + (rest << half) // sums[:, -1:]


def _shares_depend_on(config: SamplerConfig) -> set[str]:
    """Collect what the shares of the parts depend on."""
    return {DISTRIBUTIONS[kind].shares_by for kind, _ in config.parts}


def _shares_subset(config: SamplerConfig) -> bytes | None:
    """Digest of the subset if the shares depend on the number of candidates."""
    subset = config.candidate_set
    if subset is None or "candidates" not in _shares_depend_on(config):
        return None
    return subset.digest


def _ranked(
    triples: NDArray[np.int64],
    slot: int,
    candidates: Candidates,
    weights: Weights | None,
    num_ids: tuple[int, int, int],
) -> PairIndex:
    """Index known triples by rank among the candidates; other values are dropped."""
    if weights is not None:
        ranks = weights.ranking.ranks[triples[:, slot]].astype(np.int64)
        found = ranks != cell_table.NO_RANK_32
    else:
        ranks, found = candidates.ranks(triples[:, 1], triples[:, slot])
    first, second = (column for column in range(3) if column != slot)
    return PairIndex.build(
        Pairs(
            triples[found, first],
            triples[found, second],
            ranks[found],
            num_first=num_ids[first],
            num_second=num_ids[second],
            num_values=candidates.counts[slice(1 if candidates.are_alike else None)],
            # The relation is the first of (relation, tail) and the second of (head, relation).
            relation_column=0 if slot == 0 else 1,
        )
    )
