"""Ids of drawn ranks, and their output in the width of the id space."""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint32, store_uint8, store_uint16, store_uint32
from negserve_server.jit.constants import U2, U4
from negserve_server.sampling.kernels.records.cell_state import ALL_IDS, FIRST_CANDIDATE, state
from negserve_server.sampling.kernels.records.cell_table import CANDIDATE_IDS, field


@nb.njit(inline="always")
def to_ids(cell_table: int, cell_state: int, cell: int, ranks: int, begin: int, end: int) -> None:
    """Replace ranks by the ids of a cell, in place; ``ranks`` is an address of uint32."""
    first = state(cell_state, cell, FIRST_CANDIDATE)
    if first != ALL_IDS:
        ids = field(cell_table, cell, CANDIDATE_IDS)
        for j in range(begin, end):
            rank = np.uint64(load_uint32(ranks, j))
            store_uint32(ranks, j, load_uint32(ids, first + rank))


@nb.njit(inline="always")
def write_ids(ids: int, k: int, replaced: int, width: int, row: int) -> None:
    """Write a row of ids in the width of the output.

    :param ids: address of uint32, shape (k,)
    :param replaced: address of the output, shape (rows, k)
    :param width: bytes of an id in the output: 1, 2 or 4
    """
    begin = np.uint64(row) * k
    if width == U2:
        for j in range(k):
            store_uint16(replaced, begin + j, np.uint16(load_uint32(ids, j)))
    elif width == U4:
        for j in range(k):
            store_uint32(replaced, begin + j, load_uint32(ids, j))
    else:
        for j in range(k):
            store_uint8(replaced, begin + j, np.uint8(load_uint32(ids, j)))
