"""Exclusion of known values and originals from the draws of a cell, or their flags in the mask."""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.index.known_lists import SHORT_LIST, find_hits, stand_in_of
from negserve_server.jit.addresses import load_uint32, load_uint64, store_uint8, store_uint32
from negserve_server.jit.constants import LOW_16, LOW_32, U0, U32, U48
from negserve_server.sampling.kernels.records.cell_state import (
    IS_ORIGINAL_EXTRA,
    LIST_LENGTH,
    LIST_START,
    NUM_LEGAL,
    ORIGINAL,
    state,
)
from negserve_server.sampling.kernels.records.cell_table import KNOWN_LISTS, field
from negserve_server.sampling.kernels.records.lookups import (
    LOOKUP_BYTES,
    LOOKUP_LENGTH,
    LOOKUP_START,
    lookup,
)
from negserve_server.sampling.kernels.units import is_in_list, owner, stand_in

_SHORT = np.uint64(SHORT_LIST)


@nb.njit(inline="always")
def find_owners(cell_table: int, cell: int, ranks: int, units: int, begin: int, end: int) -> None:
    """Replace units of a weighted cell by the ranks that own them.

    :param ranks: address of uint32, shape (k,): units before, ranks after
    :param units: address of uint32, shape (k,), written: the units
    """
    for j in range(begin, end):
        unit = load_uint32(ranks, j)
        store_uint32(units, j, unit)
        store_uint32(ranks, j, np.uint32(owner(cell_table, cell, np.uint64(unit))))


@nb.njit(inline="always")
def replace_value(ranks: int, begin: int, end: int, value: int, replacement: int) -> None:
    """Replace one value by another."""
    for j in range(begin, end):
        rank = load_uint32(ranks, j)
        store_uint32(ranks, j, replacement if rank == value else rank)


@nb.njit(inline="always")
def _replace_original(
    cell_table: int, cell_state: int, cell: int, ranks: int, units: int, begin: int, end: int
) -> None:
    """Replace draws of an original that is excluded in addition to the list."""
    original = np.uint32(state(cell_state, cell, ORIGINAL))
    if state(cell_state, cell, LIST_LENGTH) == U0 and units == ranks:
        # Only the original is excluded, so the first legal unit from M on is M.
        num_legal = np.uint32(state(cell_state, cell, NUM_LEGAL))
        replace_value(ranks, begin, end, original, num_legal)
        return
    is_any = np.uint32(0)
    for j in range(begin, end):
        is_any |= np.uint32(load_uint32(ranks, j) == original)
    if is_any != np.uint32(0):
        for j in range(begin, end):
            if load_uint32(ranks, j) == original:
                unit = np.uint64(load_uint32(units, j))
                store_uint32(ranks, j, np.uint32(stand_in(cell_table, cell_state, cell, unit)))


@nb.njit(inline="always")
def replace_excluded(
    cell_table: int,
    cell_state: int,
    cell: int,
    ranks: int,
    units: int,
    begin: int,
    end: int,
    hits: int,
    tag: int,
    may_defer: bool,
) -> int:
    """Replace excluded draws by their stand-ins, or leave that to :func:`replace_deferred`.

    A hit is the index of a draw that the list may hold, see
    :func:`~negserve_server.index.known_lists.find_hits`.

    :param ranks: address of uint32, shape (k,): the draws ``begin`` to ``end`` - 1 are the cell's
    :param units: address of uint32, shape (k,): units of these ranks; equal to ``ranks`` if the
        cell is uniform
    :param hits: address of uint64, room for ``end - begin + 1``
    :param tag: uint64 of :func:`deferred_tag`, added to deferred hits
    :param may_defer: whether hits may be deferred
    :return: number of deferred hits
    """
    length = state(cell_state, cell, LIST_LENGTH)
    is_extra = state(cell_state, cell, IS_ORIGINAL_EXTRA) != U0
    if is_extra:
        _replace_original(cell_table, cell_state, cell, ranks, units, begin, end)
    if length == U0:
        return U0
    lists, start = field(cell_table, cell, KNOWN_LISTS), state(cell_state, cell, LIST_START)
    # The usual case: ranks are units, and exactly the long list is excluded.
    is_plain = length > _SHORT and not is_extra and units == ranks
    is_deferred = is_plain and may_defer
    num_hits = find_hits(ranks, begin, end, lists, start, length, hits, tag if is_deferred else U0)
    if is_deferred:
        return num_hits
    for i in range(num_hits):
        j = load_uint64(hits, i)
        rank = np.uint64(load_uint32(ranks, j))
        if is_plain:
            store_uint32(ranks, j, np.uint32(stand_in_of(lists, start, length, rank)))
        elif is_in_list(cell_table, cell_state, cell, rank):
            unit = np.uint64(load_uint32(units, j))
            store_uint32(ranks, j, np.uint32(stand_in(cell_table, cell_state, cell, unit)))
    return U0


@nb.njit(inline="always")
def deferred_tag(row: int, k: int, cell: int) -> int:
    """Tag of deferred hits: bits 48 to 63 the row, 32 to 47 the cell, 0 to 31 draws before the row.

    A tag plus the index of a draw in its row is a deferred hit.
    """
    return (row << U48) | (np.uint64(cell) << U32) | (row * k)


@nb.njit(inline="always")
def replace_deferred(
    cell_table: int, lookups: int, num_cells: int, ranks: int, hits: int, num_hits: int
) -> None:
    """Replace the excluded draws among the deferred hits of a block by their stand-ins.

    :param lookups: address of the lookups of a block
    :param ranks: address of uint32, shape (block, k)
    :param hits: address of uint64, shape (num_hits,)
    """
    for i in range(num_hits):
        hit = load_uint64(hits, i)
        row, cell, j = hit >> U48, (hit >> U32) & LOW_16, hit & LOW_32
        own_lookups = lookups + row * num_cells * LOOKUP_BYTES
        start = lookup(own_lookups, cell, LOOKUP_START)
        length = lookup(own_lookups, cell, LOOKUP_LENGTH)
        lists = field(cell_table, cell, KNOWN_LISTS)
        rank = np.uint64(load_uint32(ranks, j))
        store_uint32(ranks, j, np.uint32(stand_in_of(lists, start, length, rank)))


@nb.njit(inline="always")
def flag_known(
    cell_table: int,
    cell_state: int,
    cell: int,
    ranks: int,
    begin: int,
    end: int,
    hits: int,
    mask: int,
) -> None:
    """Set the mask of draws that are in the list of known values to 0.

    :param mask: address of uint8, shape (k,)
    """
    length = state(cell_state, cell, LIST_LENGTH)
    if length > U0:
        lists, start = field(cell_table, cell, KNOWN_LISTS), state(cell_state, cell, LIST_START)
        num_hits = find_hits(ranks, begin, end, lists, start, length, hits, U0)
        for i in range(num_hits):
            j = load_uint64(hits, i)
            if is_in_list(cell_table, cell_state, cell, np.uint64(load_uint32(ranks, j))):
                store_uint8(mask, j, np.uint8(0))
