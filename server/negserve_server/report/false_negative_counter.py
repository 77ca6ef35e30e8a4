"""Exact probability that an unfiltered negative is a known triple, for each training triple.

Nothing is drawn: candidates, weights and shares come from a sampler's :class:`DrawTables`, and
``docs/sampling.md`` defines their effect. The cost is that of sorting the triples once per slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.types.triples import are_first, sort_unique_triples
from negserve_server.jit.compiled import compiled
from negserve_server.sampling.draw_tables import DrawCell, DrawTables

#: Columns of a triple by which rows are sorted here: relation, head, tail.
_BY_RELATION = [1, 0, 2]


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Probabilities of n training triples, for one sampler kind.

    :ivar by_slot: float64, shape (slots, n): probability that a negative with this slot replaced
        is known; 0 if the original is the only candidate, so that nothing can be drawn
    :ivar shares: float64, shape (slots, n): share of the negatives that replace this slot, after
        reallocation from slots without a candidate; zeros for a saturated triple
    :ivar overall: float64, shape (n,): probability that a negative is known
    :ivar is_saturated: shape (n,): whether no slot has a candidate, so that any id is drawn
    """

    by_slot: NDArray[np.float64]
    shares: NDArray[np.float64]
    overall: NDArray[np.float64]
    is_saturated: NDArray[np.bool_]


class FalseNegativeCounter:
    """Counts the known values of the pairs of training triples, once for all sampler kinds.

    :param training: distinct training triples, sorted by head, relation, tail, int64, shape (n, 3)
    :param known: triples that make a negative a false one, repetitions allowed, int64,
        shape (m, 3); training triples count only if they are among them
    """

    def __init__(self, training: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        # Training and known triples in one sorted array: those of a pair are neighbours, and since
        # relations come first, those of a relation, too.
        training = sort_unique_triples(training[:, _BY_RELATION])
        known = sort_unique_triples(known[:, _BY_RELATION])
        rows = sort_unique_triples(np.concatenate([training, known]))
        self._is_training = _marks(rows, training)
        self._is_known = _marks(rows, known)
        self._columns = [np.ascontiguousarray(rows[:, column]) for column in _BY_RELATION]
        self._pairs: dict[int, _Pairs] = {}
        #: Relation of each training triple, ascending, int64, shape (n,).
        self.relations = training[:, 0].copy()

    def probabilities(self, tables: DrawTables) -> Probabilities:
        """Compute the probabilities of a kind.

        :param tables: of a configuration of one kind, without candidates; filters have no effect
        :return: in the order of :attr:`relations`
        """
        relations = self._columns[1]
        num_slots, num_training = len(tables.cells), len(self.relations)
        by_slot = np.zeros((num_slots, num_training))
        is_open = np.empty((num_slots, num_training), dtype=np.bool_)
        for i, cell in enumerate(tables.cells):
            units = _units(cell, relations, self._columns[cell.slot])
            known = self._known_units(cell.slot, units)[self._is_training]
            legal = _total_units(cell)[self.relations] - units[self._is_training]
            is_open[i] = legal > 0
            np.divide(known, legal, out=by_slot[i], where=is_open[i])
        widths = np.diff(tables.cumulative_shares.astype(np.float64), axis=1, prepend=0.0) / 2.0**32
        shares = np.stack([of_slot[self.relations] for of_slot in widths.T])
        is_saturated = _move_shares(shares, is_open)
        overall = (shares * by_slot).sum(axis=0)
        if is_saturated.any():
            # Uniform in the last slot from all ids but the original, candidate or not.
            last = tables.cells[-1].slot
            units = np.ones(len(relations), dtype=np.int64)
            known = self._known_units(last, units)[self._is_training]
            overall[is_saturated] = known[is_saturated] / (tables.num_ids[last] - 1)
        return Probabilities(by_slot, shares, overall, is_saturated)

    def _known_units(self, slot: int, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum, for each row, the units of the other known rows of its pair; shape (n,)."""
        units = np.where(self._is_known, units, 0)
        if slot not in self._pairs:
            first, second = (self._columns[column] for column in range(3) if column != slot)
            # Rows are sorted by relation and head, so those of such a pair are neighbours.
            self._pairs[slot] = _Pairs.of(first, second, is_grouped=slot == 2)
        return self._pairs[slot].sums(units) - units


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Rows grouped by the pair of ids that stays when a slot is replaced.

    :ivar order: int64, shape (n,): rows ordered by pair; None if they already are
    :ivar starts: int64, shape (pairs,): index of each pair's first row in that order
    :ivar lengths: int64, shape (pairs,): number of rows of each pair
    """

    order: NDArray[np.intp] | None
    starts: NDArray[np.intp]
    lengths: NDArray[np.intp]

    @classmethod
    def of(cls, first: NDArray[np.int64], second: NDArray[np.int64], *, is_grouped: bool) -> _Pairs:
        keys = (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)
        order = None
        if not is_grouped:
            order = np.argsort(keys)
            keys = keys[order]
        starts = np.flatnonzero(are_first(keys))
        return cls(order, starts, np.diff(starts, append=len(keys)))

    def sums(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum of the pair's rows, for each row; shape (n,) to (n,)."""
        in_order = units if self.order is None else units[self.order]
        sums: NDArray[np.int64] = np.repeat(np.add.reduceat(in_order, self.starts), self.lengths)
        if self.order is None:
            return sums
        result = np.empty_like(sums)
        result[self.order] = sums
        return result


def _units(
    cell: DrawCell, relations: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Units of ids among the candidates of their relation, 0 for none; all of shape (n,)."""
    if cell.weights is not None:
        units = np.zeros(len(cell.weights.ranking.ranks), dtype=np.int64)
        units[cell.weights.ranking.ids] = np.diff(cell.weights.unit_starts.astype(np.int64))
        return units[ids]
    _, is_candidate = cell.candidates.ranks(relations, ids)
    return is_candidate.astype(np.int64)


def _total_units(cell: DrawCell) -> NDArray[np.int64]:
    """Units of all candidates of each relation; shape (num_relations,)."""
    if cell.weights is not None:
        return np.full_like(cell.candidates.counts, int(cell.weights.unit_starts[-1]))
    return cell.candidates.counts


def _move_shares(shares: NDArray[np.float64], is_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Reallocate shares of slots without a candidate to the first slot with one, in place.

    :param shares: shape (slots, n)
    :param is_open: shape (slots, n)
    :return: whether there is no such slot, so that all shares are 0; shape (n,)
    """
    rows = np.flatnonzero(~is_open.all(axis=0))
    few_shares, is_few_open = shares[:, rows], is_open[:, rows]
    moved = np.where(is_few_open, 0.0, few_shares).sum(axis=0)
    few_shares[~is_few_open] = 0.0
    has_any = is_few_open.any(axis=0)
    few_shares[is_few_open.argmax(axis=0), np.arange(len(rows))] += np.where(has_any, moved, 0.0)
    shares[:, rows] = few_shares
    is_saturated = np.zeros(shares.shape[1], dtype=np.bool_)
    is_saturated[rows] = ~has_any
    return is_saturated


def _marks(rows: NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row is among ``some``; both sorted and distinct, shape (n, 3) to (n,)."""
    marks = np.zeros(len(rows), dtype=np.bool_)
    _merge(rows, some, marks)
    return marks


@compiled
def _merge(rows: NDArray[np.int64], some: NDArray[np.int64], marks: NDArray[np.bool_]) -> None:
    at = 0
    for i in range(len(rows)):
        if at < len(some) and (
            rows[i, 0] == some[at, 0] and rows[i, 1] == some[at, 1] and rows[i, 2] == some[at, 2]
        ):
            marks[i] = True
            at += 1
