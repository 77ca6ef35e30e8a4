"""Which cell gets how many negatives: systematic sampling, and what saturation changes.

A cell has room for any number of negatives; for none if nothing is legal; for as many as are
legal if they must be distinct. What exceeds the room goes to cells that have room left, those
of the same slot first (``docs/sampling.md``, *Saturation*).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint64, store_uint64
from negserve_server.sampling.kernels import cell_table as at
from negserve_server.sampling.kernels.plan import NOTE_COUNT, NOTE_SIZE
from negserve_server.sampling.kernels.units import COUNT, NUM_LEGAL, get, put

_ZERO = np.uint64(0)
_32 = np.uint64(32)
_ANY_NUMBER = np.uint64(2**63)


@nb.njit(inline="always")
def divide(ends: int, num_cells: int, k: int, word: int, notes: int) -> None:
    """Write how many of the k negatives each cell gets.

    :param ends: address of uint64: where each cell of the positive's relation ends, in 2^-32,
        shape (cells,)
    :param word: the first word of the positive
    :param notes: address of the cells' notes, see :mod:`.plan`
    """
    before = _ZERO
    for cell in range(num_cells):
        end = (k * load_uint64(ends, cell) + word) >> _32
        store_uint64(notes, np.uint64(cell) * NOTE_SIZE + NOTE_COUNT, end - before)
        before = end


@nb.njit(inline="always")
def _room(plans: int, cell: int, is_distinct: bool) -> int:
    num_legal = get(plans, cell, NUM_LEGAL)
    return num_legal if is_distinct or num_legal == _ZERO else _ANY_NUMBER


@nb.njit
def settle(cell_table: int, plans: int, num_cells: int, is_distinct: bool) -> int:
    """Move what exceeds the rooms; give the number of negatives that no cell has room for.

    All cells must be planned.
    """
    num_homeless = _ZERO
    for cell in range(num_cells):
        count, room = get(plans, cell, COUNT), _room(plans, cell, is_distinct)
        if count <= room:
            continue
        put(plans, cell, COUNT, room)
        excess = count - room
        for any_slot in range(2):
            for other in range(num_cells):
                same_slot = at.field(cell_table, cell, at.SLOT) == at.field(
                    cell_table, other, at.SLOT
                )
                taken, room = get(plans, other, COUNT), _room(plans, other, is_distinct)
                if other != cell and (any_slot == 1 or same_slot) and taken < room:
                    moved = min(excess, room - taken)
                    put(plans, other, COUNT, taken + moved)
                    excess -= moved
        num_homeless += excess
    return num_homeless


@nb.njit
def settle_shares(ends: int, cell_table: int, plans: int, num_cells: int, shares: int) -> None:
    """Write the share of each cell, in 2^-32, after those of saturated cells went elsewhere.

    :param ends: as for :func:`divide`
    :param shares: address of uint64, shape (cells,)
    """
    before = _ZERO
    for cell in range(num_cells):
        end = load_uint64(ends, cell)
        store_uint64(shares, cell, end - before)
        before = end
    for cell in range(num_cells):
        if get(plans, cell, NUM_LEGAL) > _ZERO:
            continue
        shelter = num_cells
        for any_slot in range(2):
            for other in range(num_cells):
                same_slot = at.field(cell_table, cell, at.SLOT) == at.field(
                    cell_table, other, at.SLOT
                )
                is_open = get(plans, other, NUM_LEGAL) > _ZERO
                if shelter == num_cells and is_open and (any_slot == 1 or same_slot):
                    shelter = other
        if shelter < num_cells:
            moved = load_uint64(shares, shelter) + load_uint64(shares, cell)
            store_uint64(shares, shelter, moved)
            store_uint64(shares, cell, _ZERO)
