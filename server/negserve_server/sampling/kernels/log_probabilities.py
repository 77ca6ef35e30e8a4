"""Log probabilities of the negatives of one positive (``docs/sampling.md``, *Log probability*)."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from negserve_server.jit.addresses import NULL, load_uint32, load_uint64, store_float32
from negserve_server.jit.constants import U0, U1
from negserve_server.sampling.kernels.records.cell_state import COUNT, NUM_LEGAL, state
from negserve_server.sampling.kernels.records.cell_table import NO_RANK, SLOT, UNIT_STARTS, field
from negserve_server.sampling.kernels.units import rank_of, unit_start

_SHARE_UNIT = 2.0**-32


@nb.njit
def write_log_q(
    cell_table: int, cell_state: int, num_cells: int, shares: int, ids: int, log_q: int
) -> None:
    """Write the log probabilities of the negatives of one positive.

    :param shares: address of uint64, shape (cells,): share of each cell in units of 2^-32
    :param ids: address of uint32, shape (k,): the new values, grouped by cell
    :param log_q: address of float32, shape (k,), written
    """
    begin = U0
    first_cell = U0
    while first_cell < num_cells:
        slot = field(cell_table, first_cell, SLOT)
        end_cell = first_cell
        end = begin
        while end_cell < num_cells and field(cell_table, end_cell, SLOT) == slot:
            end += state(cell_state, end_cell, COUNT)
            end_cell += U1
        is_uniform = field(cell_table, first_cell, UNIT_STARTS) == NULL
        if end_cell == first_cell + U1 and is_uniform:
            if end > begin:
                share = np.float64(load_uint64(shares, first_cell)) * _SHARE_UNIT
                log = np.float32(
                    math.log(share / np.float64(state(cell_state, first_cell, NUM_LEGAL)))
                )
                for j in range(begin, end):
                    store_float32(log_q, j, log)
        else:
            for j in range(begin, end):
                q = _probability(
                    cell_table, cell_state, first_cell, end_cell, shares, load_uint32(ids, j)
                )
                store_float32(log_q, j, np.float32(math.log(q)))
        begin = end
        first_cell = end_cell


@nb.njit
def _probability(
    cell_table: int, cell_state: int, first_cell: int, end_cell: int, shares: int, value: int
) -> float:
    """Probability that a negative replaces the slot of these cells by this value."""
    q = 0.0
    for cell in range(first_cell, end_cell):
        num_legal = state(cell_state, cell, NUM_LEGAL)
        rank = rank_of(cell_table, cell_state, cell, value)
        if rank != NO_RANK and num_legal > U0:
            num_units = unit_start(cell_table, cell, rank + U1) - unit_start(cell_table, cell, rank)
            share = np.float64(load_uint64(shares, cell)) * _SHARE_UNIT
            q += share * np.float64(num_units) / np.float64(num_legal)
    return q
