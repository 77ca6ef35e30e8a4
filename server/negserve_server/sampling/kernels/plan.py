"""What the cells have to offer to one positive: found lists, candidates, legal units."""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.index.kernels import find_pair, pair_key, prefetch_pair
from negserve_server.jit.addresses import load_uint64, prefetch, store_uint64
from negserve_server.sampling.kernels import cell_table as at
from negserve_server.sampling.kernels.units import (
    ALL_IDS,
    COUNT,
    FIRST,
    LENGTH,
    NUM_LEGAL,
    ORIGINAL,
    START,
    exclude_original,
    get,
    is_in_list,
    plan_candidates,
    plan_legal,
    put,
)

_ZERO = np.uint64(0)
_2 = np.uint64(2)
_LINE = np.uint64(16)  # words of a cache line

# A note is what is known of a cell before it is planned, uint64: its negatives, where its list
# of known values begins, and how long that is.
NOTE_COUNT = np.uint64(0)
NOTE_START = np.uint64(1)
NOTE_LENGTH = np.uint64(2)
NOTE_SIZE = np.uint64(3)


@nb.njit(inline="always")
def _key(slot: int, head: int, relation: int, tail: int) -> int:
    """Key of the pair that stays where a slot is replaced."""
    if slot == _ZERO:
        return pair_key(relation, tail)
    if slot == _2:
        return pair_key(head, relation)
    return pair_key(head, tail)


@nb.njit(inline="always")
def original_of(slot: int, head: int, relation: int, tail: int) -> int:
    """Give the value that is replaced."""
    if slot == _ZERO:
        return np.uint64(head)
    return np.uint64(tail) if slot == _2 else np.uint64(relation)


@nb.njit(inline="always")
def announce_list(cell_table: int, cell: int, head: int, relation: int, tail: int) -> None:
    """Ask the memory for the line of the table that :func:`find_list` will read."""
    table, mask = (
        at.field(cell_table, cell, at.PAIR_TABLE),
        at.field(cell_table, cell, at.PAIR_TABLE_MASK),
    )
    prefetch_pair(table, mask, _key(at.field(cell_table, cell, at.SLOT), head, relation, tail))


@nb.njit(inline="always")
def find_list(cell_table: int, notes: int, cell: int, head: int, relation: int, tail: int) -> None:
    """Note where the known values of a cell are, and ask the memory for their first lines."""
    table, mask = (
        at.field(cell_table, cell, at.PAIR_TABLE),
        at.field(cell_table, cell, at.PAIR_TABLE_MASK),
    )
    key = _key(at.field(cell_table, cell, at.SLOT), head, relation, tail)
    start, length = find_pair(table, mask, key)
    note = np.uint64(cell) * NOTE_SIZE
    store_uint64(notes, note + NOTE_START, start)
    store_uint64(notes, note + NOTE_LENGTH, length)
    lists = at.field(cell_table, cell, at.KNOWN_LISTS)
    # Both lines whatever the length, which nobody can guess: a wrong guess costs more than a line.
    prefetch(lists, start)
    prefetch(lists, start + _LINE)


@nb.njit
def plan_positive(
    cell_table: int,
    plans: int,
    notes: int,
    num_cells: int,
    head: int,
    relation: int,
    tail: int,
    is_exact: bool,
    is_distinct: bool,
    with_all: bool,
) -> bool:
    """Plan the cells that have negatives, or all; tell whether each has room for its own.

    :param notes: address of uint64, shape (cells, 3); the lists of planned cells are found
    """
    shortest = num_cells
    shortest_length = _ZERO
    for cell in range(num_cells):
        note = np.uint64(cell) * NOTE_SIZE
        count = load_uint64(notes, note + NOTE_COUNT)
        put(plans, cell, COUNT, count)
        if count == _ZERO and not with_all:
            continue
        length = load_uint64(notes, note + NOTE_LENGTH) if is_exact else _ZERO
        put(plans, cell, START, load_uint64(notes, note + NOTE_START))
        put(plans, cell, LENGTH, length)
        slot = at.field(cell_table, cell, at.SLOT)
        original = original_of(slot, head, relation, tail)
        plan_candidates(cell_table, plans, cell, original, relation)
        is_shorter = shortest == num_cells or length < shortest_length
        if get(plans, cell, FIRST) == ALL_IDS and is_shorter:
            shortest, shortest_length = np.uint64(cell), length

    # Whether the positive is known is the same in all cells in which every id is a candidate:
    # the shortest list tells soonest.
    is_known = False
    if shortest < num_cells and shortest_length > _ZERO:
        is_known = is_in_list(cell_table, plans, shortest, get(plans, shortest, ORIGINAL))

    is_enough = True
    for cell in range(num_cells):
        count = get(plans, cell, COUNT)
        if count == _ZERO and not with_all:
            continue
        plan_legal(cell_table, plans, cell)
        original = get(plans, cell, ORIGINAL)
        if get(plans, cell, FIRST) == ALL_IDS:
            if not is_known:
                exclude_original(cell_table, plans, cell)
        elif original != at.NO_RANK and not is_in_list(cell_table, plans, cell, original):
            exclude_original(cell_table, plans, cell)
        num_legal = get(plans, cell, NUM_LEGAL)
        is_enough &= count == _ZERO or (
            num_legal > _ZERO and (not is_distinct or count <= num_legal)
        )
    return is_enough
