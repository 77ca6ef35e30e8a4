"""Units: what a cell draws from, which of them are excluded, and their stand-ins.

``docs/sampling.md`` defines units, ``M`` and the map from draws to legal units. All searches
are bounded. In a cell with uniform weights the unit is the rank itself.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.index.known_lists import count_below, first_value, holds, is_at, lower_bound
from negserve_server.jit.addresses import NULL, load_uint32
from negserve_server.jit.constants import U0, U1
from negserve_server.sampling.kernels.records.cell_state import (
    ALL_IDS,
    FIRST_CANDIDATE,
    IS_ORIGINAL_EXTRA,
    LIST_LENGTH,
    LIST_START,
    NUM_LEGAL,
    NUM_RANKS,
    ORIGINAL,
    state,
)
from negserve_server.sampling.kernels.records.cell_table import (
    CANDIDATE_IDS,
    GUIDE,
    GUIDE_SHIFT,
    GUIDE_STEPS,
    KNOWN_LISTS,
    NO_RANK,
    NO_RANK_32,
    RANKS,
    UNIT_STARTS,
    UNITS_BEFORE,
    field,
)


@nb.njit(inline="always")
def unit_start(cell_table: int, cell: int, rank: int) -> int:
    """First unit of a rank; the number of units for the rank after the last."""
    starts = field(cell_table, cell, UNIT_STARTS)
    return rank if starts == NULL else np.uint64(load_uint32(starts, rank))


@nb.njit(inline="always")
def owner(cell_table: int, cell: int, unit: int) -> int:
    """Rank that owns a unit of a weighted cell.

    Guide table: Chen and Asau, "On generating random variates from an empirical
    distribution", AIIE Transactions 6(2), 1974.
    """
    starts = field(cell_table, cell, UNIT_STARTS)
    guide = field(cell_table, cell, GUIDE)
    bucket = unit >> field(cell_table, cell, GUIDE_SHIFT)
    low = np.uint64(load_uint32(guide, bucket))
    high = np.uint64(load_uint32(guide, bucket + U1))
    for _ in range(np.int64(field(cell_table, cell, GUIDE_STEPS))):
        # Find the last rank from low to high that begins at the unit or before it.
        middle = (low + high + U1) >> U1
        is_before = np.uint64(load_uint32(starts, middle)) <= unit
        low = middle if is_before else low
        high = high if is_before else middle - U1
    return low


@nb.njit(inline="always")
def units_before(cell_table: int, cell: int, start: int, index: int, length: int) -> int:
    """Units of the first ``index`` values of a list of known values."""
    before = field(cell_table, cell, UNITS_BEFORE)
    if before == NULL:
        return index
    first = first_value(field(cell_table, cell, KNOWN_LISTS), start, length)
    if index < length:
        return np.uint64(load_uint32(before, first + index))
    if length == U0:
        return U0
    last = first + length - U1
    rank = np.uint64(load_uint32(field(cell_table, cell, KNOWN_LISTS), last))
    return (
        np.uint64(load_uint32(before, last))
        + unit_start(cell_table, cell, rank + U1)
        - unit_start(cell_table, cell, rank)
    )


@nb.njit(inline="always")
def rank_of(cell_table: int, cell_state: int, cell: int, value: int) -> int:
    """Rank of an id among the candidates of the cell state; ``NO_RANK`` if it is none."""
    first = state(cell_state, cell, FIRST_CANDIDATE)
    if first == ALL_IDS:
        return np.uint64(value)
    ranks = field(cell_table, cell, RANKS)
    if ranks != NULL:
        rank_32 = load_uint32(ranks, np.uint64(value))
        return NO_RANK if rank_32 == NO_RANK_32 else np.uint64(rank_32)
    ids = field(cell_table, cell, CANDIDATE_IDS)
    num_ranks = state(cell_state, cell, NUM_RANKS)
    rank = lower_bound(ids, first, num_ranks, np.uint32(value))
    if rank < num_ranks and load_uint32(ids, first + rank) == np.uint32(value):
        return rank
    return NO_RANK


@nb.njit(inline="always")
def is_in_list(cell_table: int, cell_state: int, cell: int, rank: int) -> bool:
    """Whether the list of known values holds a rank."""
    lists = field(cell_table, cell, KNOWN_LISTS)
    return holds(
        lists, state(cell_state, cell, LIST_START), state(cell_state, cell, LIST_LENGTH), rank
    )


@nb.njit
def excluded_below(cell_table: int, cell_state: int, cell: int, unit: int) -> int:
    """Count the excluded units below a unit, which may be the number of units."""
    lists = field(cell_table, cell, KNOWN_LISTS)
    start, length = state(cell_state, cell, LIST_START), state(cell_state, cell, LIST_LENGTH)
    rank = unit
    if field(cell_table, cell, UNIT_STARTS) != NULL:
        num_ranks = state(cell_state, cell, NUM_RANKS)
        rank = num_ranks
        if unit < unit_start(cell_table, cell, num_ranks):
            rank = owner(cell_table, cell, unit)
    index = count_below(lists, start, length, rank)
    below = units_before(cell_table, cell, start, index, length)
    if is_at(lists, start, length, index, rank):
        below += unit - unit_start(cell_table, cell, rank)
    if state(cell_state, cell, IS_ORIGINAL_EXTRA) != U0:
        original = state(cell_state, cell, ORIGINAL)
        below += min(unit, unit_start(cell_table, cell, original + U1)) - min(
            unit, unit_start(cell_table, cell, original)
        )
    return below


@nb.njit
def legal_unit(cell_table: int, cell_state: int, cell: int, index: int) -> int:
    """Legal unit with ``index`` legal units before it."""
    lists = field(cell_table, cell, KNOWN_LISTS)
    start, length = state(cell_state, cell, LIST_START), state(cell_state, cell, LIST_LENGTH)
    first = first_value(lists, start, length)
    if state(cell_state, cell, IS_ORIGINAL_EXTRA) != U0:
        # Index among the units that are not in the list, which include those of the original.
        original = state(cell_state, cell, ORIGINAL)
        begin = unit_start(cell_table, cell, original)
        before = count_below(lists, start, length, original)
        if index >= begin - units_before(cell_table, cell, start, before, length):
            index += unit_start(cell_table, cell, original + U1) - begin
    low, high = U0, length
    while low < high:
        middle = (low + high) >> U1
        rank = np.uint64(load_uint32(lists, first + middle))
        before = units_before(cell_table, cell, start, middle, length)
        if unit_start(cell_table, cell, rank) - before <= index:
            low = middle + U1
        else:
            high = middle
    return index + units_before(cell_table, cell, start, low, length)


@nb.njit
def stand_in(cell_table: int, cell_state: int, cell: int, unit: int) -> int:
    """Rank of the stand-in of an excluded unit below M.

    The stand-in of the i-th excluded unit is the i-th legal unit from M on.
    """
    num_legal = state(cell_state, cell, NUM_LEGAL)
    legal_below = num_legal - excluded_below(cell_table, cell_state, cell, num_legal)
    index = legal_below + excluded_below(cell_table, cell_state, cell, unit)
    legal = legal_unit(cell_table, cell_state, cell, index)
    if field(cell_table, cell, UNIT_STARTS) == NULL:
        return legal
    return owner(cell_table, cell, legal)
