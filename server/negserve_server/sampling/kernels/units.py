"""Units: what a cell draws from, which of them are excluded, and what stands in for those.

``docs/sampling.md`` defines units, ``M`` and the map from draws to legal units. All searches
are bounded. Of a cell with uniform weights the unit is the rank itself.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np

from negserve_server.index.known_lists import (
    count_below,
    first_value,
    holds,
    is_at,
    lower_bound,
)
from negserve_server.jit.addresses import (
    NULL,
    load_int64,
    load_uint32,
    load_uint64,
    store_uint64,
)
from negserve_server.sampling.kernels import cell_table as at

_ZERO = np.uint64(0)
_ONE = np.uint64(1)

#: Columns of a plan, uint64: what one cell has to offer to one positive. Where the list of
#: known values begins and how long it is; the first candidate (:data:`ALL_IDS` if the rank is
#: the id) and how many there are; the rank of the original (``NO_RANK`` if it is no candidate);
#: whether it is excluded for itself, not being known; the legal units, M; how many negatives.
START: Final = np.uint64(0)
LENGTH: Final = np.uint64(1)
FIRST: Final = np.uint64(2)
NUM_RANKS: Final = np.uint64(3)
ORIGINAL: Final = np.uint64(4)
IS_EXTRA: Final = np.uint64(5)
NUM_LEGAL: Final = np.uint64(6)
COUNT: Final = np.uint64(7)

NUM_COLUMNS: Final = 8
ALL_IDS: Final = np.uint64(0xFFFFFFFFFFFFFFFF)

_NUM_COLUMNS = np.uint64(NUM_COLUMNS)


@nb.njit(inline="always")
def get(plans: int, cell: int, name: int) -> int:
    """Load a column of a cell's plan; ``plans`` is the address of uint64, shape (cells, 8)."""
    return load_uint64(plans, np.uint64(cell) * _NUM_COLUMNS + name)


@nb.njit(inline="always")
def put(plans: int, cell: int, name: int, value: int) -> None:
    """Store a column of a cell's plan."""
    store_uint64(plans, np.uint64(cell) * _NUM_COLUMNS + name, np.uint64(value))


@nb.njit(inline="always")
def unit_start(cell_table: int, cell: int, rank: int) -> int:
    """First unit of a rank; of the rank behind the last one, the number of units."""
    starts = at.field(cell_table, cell, at.UNIT_STARTS)
    return rank if starts == NULL else np.uint64(load_uint32(starts, rank))


@nb.njit(inline="always")
def owner(cell_table: int, cell: int, unit: int) -> int:
    """Rank that owns a unit of a weighted cell.

    Guide table: Chen and Asau, "On generating random variates from an empirical
    distribution", AIIE Transactions 6(2), 1974.
    """
    starts = at.field(cell_table, cell, at.UNIT_STARTS)
    guide = at.field(cell_table, cell, at.GUIDE)
    bucket = unit >> at.field(cell_table, cell, at.GUIDE_SHIFT)
    low = np.uint64(load_uint32(guide, bucket))
    high = np.uint64(load_uint32(guide, bucket + _ONE))
    for _ in range(np.int64(at.field(cell_table, cell, at.GUIDE_STEPS))):
        # The last rank from low to high that begins at the unit or before.
        middle = (low + high + _ONE) >> _ONE
        is_before = np.uint64(load_uint32(starts, middle)) <= unit
        low = middle if is_before else low
        high = high if is_before else middle - _ONE
    return low


@nb.njit(inline="always")
def units_before(cell_table: int, cell: int, start: int, index: int, length: int) -> int:
    """Units of the first ``index`` known values of a list that begins at ``start``."""
    before = at.field(cell_table, cell, at.UNITS_BEFORE)
    if before == NULL:
        return index
    first = first_value(at.field(cell_table, cell, at.KNOWN_LISTS), start, length)
    if index < length:
        return np.uint64(load_uint32(before, first + index))
    if length == _ZERO:
        return _ZERO
    last = first + length - _ONE
    rank = np.uint64(load_uint32(at.field(cell_table, cell, at.KNOWN_LISTS), last))
    return (
        np.uint64(load_uint32(before, last))
        + unit_start(cell_table, cell, rank + _ONE)
        - unit_start(cell_table, cell, rank)
    )


@nb.njit(inline="always")
def rank_of(cell_table: int, plans: int, cell: int, value: int) -> int:
    """Rank of an id among the candidates that the plan names; ``NO_RANK`` if it is none."""
    first = get(plans, cell, FIRST)
    if first == ALL_IDS:
        return np.uint64(value)
    ranks = at.field(cell_table, cell, at.RANKS)
    if ranks != NULL:
        rank_32 = load_uint32(ranks, np.uint64(value))
        return at.NO_RANK if rank_32 == at.NO_RANK_32 else np.uint64(rank_32)
    ids = at.field(cell_table, cell, at.CANDIDATE_IDS)
    num_ranks = get(plans, cell, NUM_RANKS)
    rank = lower_bound(ids, first, num_ranks, np.uint32(value))
    if rank < num_ranks and load_uint32(ids, first + rank) == np.uint32(value):
        return rank
    return at.NO_RANK


@nb.njit(inline="always")
def plan_candidates(cell_table: int, plans: int, cell: int, original: int, relation: int) -> None:
    """Write what does not depend on known values: candidates and the original's rank."""
    first = ALL_IDS
    num_ranks = at.field(cell_table, cell, at.NUM_IDS)
    starts = at.field(cell_table, cell, at.CANDIDATE_STARTS)
    if starts != NULL:
        row = np.uint64(relation) * at.field(cell_table, cell, at.CANDIDATE_STRIDE)
        start = load_int64(starts, row)
        if start >= np.int64(0):
            first = np.uint64(start)
            counts = at.field(cell_table, cell, at.CANDIDATE_COUNTS)
            num_ranks = np.uint64(load_int64(counts, row))
    put(plans, cell, FIRST, first)
    put(plans, cell, NUM_RANKS, num_ranks)
    put(plans, cell, ORIGINAL, rank_of(cell_table, plans, cell, original))


@nb.njit(inline="always")
def plan_legal(cell_table: int, plans: int, cell: int) -> None:
    """Write how many units are not known, once list and candidates are written."""
    start, length = get(plans, cell, START), get(plans, cell, LENGTH)
    num_units = unit_start(cell_table, cell, get(plans, cell, NUM_RANKS))
    put(plans, cell, NUM_LEGAL, num_units - units_before(cell_table, cell, start, length, length))
    put(plans, cell, IS_EXTRA, _ZERO)


@nb.njit
def exclude_original(cell_table: int, plans: int, cell: int) -> None:
    """Take the original, which is a candidate and not known, from the legal units.

    A function of its own, so that it is a branch: processors guess that originals are known, and
    draw on before they have looked it up.
    """
    original = get(plans, cell, ORIGINAL)
    num_units = unit_start(cell_table, cell, original + _ONE) - unit_start(
        cell_table, cell, original
    )
    put(plans, cell, NUM_LEGAL, get(plans, cell, NUM_LEGAL) - num_units)
    put(plans, cell, IS_EXTRA, _ONE)


@nb.njit(inline="always")
def is_in_list(cell_table: int, plans: int, cell: int, rank: int) -> bool:
    """Whether the list of known values holds a rank."""
    lists = at.field(cell_table, cell, at.KNOWN_LISTS)
    return holds(lists, get(plans, cell, START), get(plans, cell, LENGTH), rank)


@nb.njit
def excluded_below(cell_table: int, plans: int, cell: int, unit: int) -> int:
    """How many excluded units lie below a unit, which may be the number of units."""
    lists = at.field(cell_table, cell, at.KNOWN_LISTS)
    start, length = get(plans, cell, START), get(plans, cell, LENGTH)
    rank = unit
    if at.field(cell_table, cell, at.UNIT_STARTS) != NULL:
        num_ranks = get(plans, cell, NUM_RANKS)
        rank = num_ranks
        if unit < unit_start(cell_table, cell, num_ranks):
            rank = owner(cell_table, cell, unit)
    index = count_below(lists, start, length, rank)
    below = units_before(cell_table, cell, start, index, length)
    if is_at(lists, start, length, index, rank):
        below += unit - unit_start(cell_table, cell, rank)
    if get(plans, cell, IS_EXTRA) != _ZERO:
        original = get(plans, cell, ORIGINAL)
        below += min(unit, unit_start(cell_table, cell, original + _ONE)) - min(
            unit, unit_start(cell_table, cell, original)
        )
    return below


@nb.njit
def legal_unit(cell_table: int, plans: int, cell: int, index: int) -> int:
    """Give the legal unit with ``index`` legal ones before it."""
    lists = at.field(cell_table, cell, at.KNOWN_LISTS)
    start, length = get(plans, cell, START), get(plans, cell, LENGTH)
    first = first_value(lists, start, length)
    if get(plans, cell, IS_EXTRA) != _ZERO:
        # First among the units that are not known, of which the original's are some.
        original = get(plans, cell, ORIGINAL)
        begin = unit_start(cell_table, cell, original)
        before = count_below(lists, start, length, original)
        if index >= begin - units_before(cell_table, cell, start, before, length):
            index += unit_start(cell_table, cell, original + _ONE) - begin
    low, high = _ZERO, length
    while low < high:
        middle = (low + high) >> _ONE
        rank = np.uint64(load_uint32(lists, first + middle))
        before = units_before(cell_table, cell, start, middle, length)
        if unit_start(cell_table, cell, rank) - before <= index:
            low = middle + _ONE
        else:
            high = middle
    return index + units_before(cell_table, cell, start, low, length)


@nb.njit
def stand_in(cell_table: int, plans: int, cell: int, unit: int) -> int:
    """Rank that an excluded unit below M stands for.

    The i-th excluded unit stands for the i-th legal one from M on.
    """
    num_legal = get(plans, cell, NUM_LEGAL)
    legal_below = num_legal - excluded_below(cell_table, plans, cell, num_legal)
    index = legal_below + excluded_below(cell_table, plans, cell, unit)
    legal = legal_unit(cell_table, plans, cell, index)
    if at.field(cell_table, cell, at.UNIT_STARTS) == NULL:
        return legal
    return owner(cell_table, cell, legal)
