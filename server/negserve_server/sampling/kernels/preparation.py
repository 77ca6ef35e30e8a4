"""Preparation of a positive's cells: candidates, original and legal units of each."""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import NULL, load_int64
from negserve_server.jit.constants import U0, U1
from negserve_server.sampling.kernels.records.cell_state import (
    ALL_IDS,
    COUNT,
    FIRST_CANDIDATE,
    IS_ORIGINAL_EXTRA,
    LIST_LENGTH,
    LIST_START,
    NUM_LEGAL,
    NUM_RANKS,
    ORIGINAL,
    set_state,
    state,
)
from negserve_server.sampling.kernels.records.cell_table import (
    CANDIDATE_COUNTS,
    CANDIDATE_STARTS,
    CANDIDATE_STRIDE,
    NO_RANK,
    NUM_IDS,
    SLOT,
    field,
)
from negserve_server.sampling.kernels.records.lookups import (
    LOOKUP_COUNT,
    LOOKUP_LENGTH,
    LOOKUP_START,
    lookup,
    original_of,
)
from negserve_server.sampling.kernels.units import is_in_list, rank_of, unit_start, units_before


@nb.njit(inline="always")
def set_candidates(
    cell_table: int, cell_state: int, cell: int, original: int, relation: int
) -> None:
    """Set the candidates and the rank of the original, which do not depend on known values."""
    first = ALL_IDS
    num_ranks = field(cell_table, cell, NUM_IDS)
    starts = field(cell_table, cell, CANDIDATE_STARTS)
    if starts != NULL:
        row = np.uint64(relation) * field(cell_table, cell, CANDIDATE_STRIDE)
        start = load_int64(starts, row)
        if start >= np.int64(0):
            first = np.uint64(start)
            num_ranks = np.uint64(load_int64(field(cell_table, cell, CANDIDATE_COUNTS), row))
    set_state(cell_state, cell, FIRST_CANDIDATE, first)
    set_state(cell_state, cell, NUM_RANKS, num_ranks)
    set_state(cell_state, cell, ORIGINAL, rank_of(cell_table, cell_state, cell, original))


@nb.njit(inline="always")
def _set_legal(cell_table: int, cell_state: int, cell: int) -> None:
    """Set the legal units: those that are not in the list."""
    start, length = state(cell_state, cell, LIST_START), state(cell_state, cell, LIST_LENGTH)
    num_units = unit_start(cell_table, cell, state(cell_state, cell, NUM_RANKS))
    num_known = units_before(cell_table, cell, start, length, length)
    set_state(cell_state, cell, NUM_LEGAL, num_units - num_known)
    set_state(cell_state, cell, IS_ORIGINAL_EXTRA, U0)


@nb.njit
def _exclude_original(cell_table: int, cell_state: int, cell: int) -> None:
    """Exclude the original, a candidate that is not in the list.

    Not inlined, so that it stays behind a branch: processors predict that originals are known, and
    draw on before the list has been read.
    """
    original = state(cell_state, cell, ORIGINAL)
    next_start = unit_start(cell_table, cell, original + U1)
    num_units = next_start - unit_start(cell_table, cell, original)
    set_state(cell_state, cell, NUM_LEGAL, state(cell_state, cell, NUM_LEGAL) - num_units)
    set_state(cell_state, cell, IS_ORIGINAL_EXTRA, U1)


@nb.njit
def prepare_cells(
    cell_table: int,
    cell_state: int,
    lookups: int,
    num_cells: int,
    head: int,
    relation: int,
    tail: int,
    is_exact: bool,
    is_distinct: bool,
    needs_all: bool,
) -> bool:
    """Write the state of the cells that give negatives, or of all cells.

    :param lookups: address; the lists of these cells are looked up
    :param is_exact: whether known values are excluded
    :param needs_all: whether cells without negatives are prepared, too
    :return: whether each cell has as many legal values as its negatives need
    """
    shortest = num_cells
    shortest_length = U0
    for cell in range(num_cells):
        count = lookup(lookups, cell, LOOKUP_COUNT)
        set_state(cell_state, cell, COUNT, count)
        if count == U0 and not needs_all:
            continue
        length = lookup(lookups, cell, LOOKUP_LENGTH) if is_exact else U0
        set_state(cell_state, cell, LIST_START, lookup(lookups, cell, LOOKUP_START))
        set_state(cell_state, cell, LIST_LENGTH, length)
        original = original_of(field(cell_table, cell, SLOT), head, relation, tail)
        set_candidates(cell_table, cell_state, cell, original, relation)
        is_shorter = shortest == num_cells or length < shortest_length
        if state(cell_state, cell, FIRST_CANDIDATE) == ALL_IDS and is_shorter:
            shortest, shortest_length = np.uint64(cell), length

    # Where every id is a candidate, the original is in the list if and only if the positive is
    # known: the same for all such cells, so the shortest list is searched.
    is_known = False
    if shortest < num_cells and shortest_length > U0:
        is_known = is_in_list(
            cell_table, cell_state, shortest, state(cell_state, shortest, ORIGINAL)
        )

    is_enough = True
    for cell in range(num_cells):
        count = state(cell_state, cell, COUNT)
        if count == U0 and not needs_all:
            continue
        _set_legal(cell_table, cell_state, cell)
        original = state(cell_state, cell, ORIGINAL)
        if state(cell_state, cell, FIRST_CANDIDATE) == ALL_IDS:
            if not is_known:
                _exclude_original(cell_table, cell_state, cell)
        elif original != NO_RANK and not is_in_list(cell_table, cell_state, cell, original):
            _exclude_original(cell_table, cell_state, cell)
        num_legal = state(cell_state, cell, NUM_LEGAL)
        is_enough &= count == U0 or (num_legal > U0 and (not is_distinct or count <= num_legal))
    return is_enough
