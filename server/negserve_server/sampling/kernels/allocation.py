"""Allocation of a positive's negatives to its cells: systematic sampling, then saturation.

A cell has a capacity: 0 if it has no legal value, its legal values if negatives must be distinct,
else unlimited. What exceeds it goes to cells with free capacity, those of the same slot first
(``docs/sampling.md``, *Saturation*).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint64, store_uint64
from negserve_server.jit.constants import U0, U32
from negserve_server.sampling.kernels.records.cell_state import COUNT, NUM_LEGAL, set_state, state
from negserve_server.sampling.kernels.records.cell_table import SLOT, field
from negserve_server.sampling.kernels.records.lookups import LOOKUP_COUNT, set_lookup

_UNLIMITED = np.uint64(2**63)


@nb.njit(inline="always")
def allocate(cumulative_shares: int, num_cells: int, k: int, word: int, lookups: int) -> None:
    """Write how many of the k negatives each cell gives.

    :param cumulative_shares: address of uint64, shape (cells,): those of the positive's relation,
        in units of 2^-32
    :param word: the first random word of the positive, as uint64
    :param lookups: address of the positive's lookups
    """
    before = U0
    for cell in range(num_cells):
        end = (k * load_uint64(cumulative_shares, cell) + word) >> U32
        set_lookup(lookups, cell, LOOKUP_COUNT, end - before)
        before = end


@nb.njit(inline="always")
def _capacity(cell_state: int, cell: int, is_distinct: bool) -> int:
    num_legal = state(cell_state, cell, NUM_LEGAL)
    return num_legal if is_distinct or num_legal == U0 else _UNLIMITED


@nb.njit
def reallocate(cell_table: int, cell_state: int, num_cells: int, is_distinct: bool) -> int:
    """Move negatives that exceed the capacity of their cell to other cells.

    All cells must be prepared.

    :return: the unplaced negatives, for which no cell has capacity
    """
    num_unplaced = U0
    for cell in range(num_cells):
        count = state(cell_state, cell, COUNT)
        capacity = _capacity(cell_state, cell, is_distinct)
        if count <= capacity:
            continue
        set_state(cell_state, cell, COUNT, capacity)
        excess = count - capacity
        for any_slot in range(2):
            for other in range(num_cells):
                is_same_slot = field(cell_table, cell, SLOT) == field(cell_table, other, SLOT)
                taken = state(cell_state, other, COUNT)
                capacity = _capacity(cell_state, other, is_distinct)
                if other != cell and (any_slot == 1 or is_same_slot) and taken < capacity:
                    moved = min(excess, capacity - taken)
                    set_state(cell_state, other, COUNT, taken + moved)
                    excess -= moved
        num_unplaced += excess
    return num_unplaced


@nb.njit
def reallocate_shares(
    cumulative_shares: int, cell_table: int, cell_state: int, num_cells: int, shares: int
) -> None:
    """Write the share of each cell in units of 2^-32; saturated cells pass theirs on.

    :param cumulative_shares: as for :func:`allocate`
    :param shares: address of uint64, shape (cells,), written
    """
    before = U0
    for cell in range(num_cells):
        end = load_uint64(cumulative_shares, cell)
        store_uint64(shares, cell, end - before)
        before = end
    for cell in range(num_cells):
        if state(cell_state, cell, NUM_LEGAL) > U0:
            continue
        heir = num_cells
        for any_slot in range(2):
            for other in range(num_cells):
                is_same_slot = field(cell_table, cell, SLOT) == field(cell_table, other, SLOT)
                has_legal = state(cell_state, other, NUM_LEGAL) > U0
                if heir == num_cells and has_legal and (any_slot == 1 or is_same_slot):
                    heir = other
        if heir < num_cells:
            moved = load_uint64(shares, heir) + load_uint64(shares, cell)
            store_uint64(shares, heir, moved)
            store_uint64(shares, cell, U0)
