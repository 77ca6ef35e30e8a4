"""What the kernels do to the k negatives of one positive: draw, exclude, flag, write."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from negserve_server.index.known_lists import (
    SHORT_LIST,
    find_hits,
    stand_in_of,
)
from negserve_server.jit.addresses import (
    NULL,
    load_uint32,
    load_uint64,
    store_float32,
    store_uint8,
    store_uint16,
    store_uint32,
)
from negserve_server.sampling.kernels import cell_table as at
from negserve_server.sampling.kernels.plan import NOTE_LENGTH, NOTE_SIZE, NOTE_START
from negserve_server.sampling.kernels.units import (
    ALL_IDS,
    COUNT,
    FIRST,
    IS_EXTRA,
    LENGTH,
    NUM_LEGAL,
    ORIGINAL,
    START,
    get,
    is_in_list,
    owner,
    rank_of,
    stand_in,
    unit_start,
)

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_32 = np.uint64(32)
_48 = np.uint64(48)
_LOW_16 = np.uint64(2**16 - 1)
_LOW = np.uint64(2**32 - 1)
_SHORT = np.uint64(SHORT_LIST)
_TWO_32 = 2.0**32


@nb.njit(inline="always")
def find_owners(cell_table: int, cell: int, ranks: int, units: int, begin: int, end: int) -> None:
    """Turn units into the ranks that own them, of a weighted cell; keep the units.

    :param ranks: address of uint32: units before, ranks after
    :param units: address of uint32, written
    """
    for j in range(begin, end):
        unit = load_uint32(ranks, j)
        store_uint32(units, j, unit)
        store_uint32(ranks, j, np.uint32(owner(cell_table, cell, np.uint64(unit))))


@nb.njit(inline="always")
def replace_value(ranks: int, begin: int, end: int, value: int, replacement: int) -> None:
    """Put one value in place of another."""
    for j in range(begin, end):
        rank = load_uint32(ranks, j)
        store_uint32(ranks, j, replacement if rank == value else rank)


@nb.njit(inline="always")
def replace_excluded(
    cell_table: int,
    plans: int,
    cell: int,
    ranks: int,
    units: int,
    begin: int,
    end: int,
    hits: int,
    tag: int,
    may_wait: bool,
) -> int:
    """Put what stands in for them in place of excluded draws; or note the draws in question.

    :param units: address of the units that the ranks own; that of the ranks if uniform
    :param hits: address of uint64, room for as many draws and one more
    :param tag: uint64, what is added to the index of a draw that waits
    :param may_wait: whether draws may wait for :func:`replace_late`
    :return: how many hits wait
    """
    length = get(plans, cell, LENGTH)
    if get(plans, cell, IS_EXTRA) != _ZERO:
        original = np.uint32(get(plans, cell, ORIGINAL))
        if length == _ZERO and units == ranks:
            # Only the original is excluded, so the first legal unit from M on is M.
            num_legal = np.uint32(get(plans, cell, NUM_LEGAL))
            replace_value(ranks, begin, end, original, num_legal)
        else:
            is_any = np.uint32(0)
            for j in range(begin, end):
                is_any |= np.uint32(load_uint32(ranks, j) == original)
            if is_any != np.uint32(0):
                for j in range(begin, end):
                    if load_uint32(ranks, j) == original:
                        unit = np.uint64(load_uint32(units, j))
                        store_uint32(ranks, j, np.uint32(stand_in(cell_table, plans, cell, unit)))
    if length == _ZERO:
        return _ZERO
    lists, start = at.field(cell_table, cell, at.KNOWN_LISTS), get(plans, cell, START)
    # The usual case: ranks are units and the list is all there is.
    is_plain = length > _SHORT and get(plans, cell, IS_EXTRA) == _ZERO and units == ranks
    waits = is_plain and may_wait
    num_hits = find_hits(ranks, begin, end, lists, start, length, hits, tag if waits else _ZERO)
    if waits:
        return num_hits
    for i in range(num_hits):
        j = load_uint64(hits, i)
        rank = np.uint64(load_uint32(ranks, j))
        if is_plain:
            store_uint32(ranks, j, np.uint32(stand_in_of(lists, start, length, rank)))
        elif is_in_list(cell_table, plans, cell, rank):
            unit = np.uint64(load_uint32(units, j))
            store_uint32(ranks, j, np.uint32(stand_in(cell_table, plans, cell, unit)))
    return _ZERO


@nb.njit(inline="always")
def tag_of(row: int, num_negatives: int, cell: int) -> int:
    """Give the tag of a draw that waits: its row, its cell, and how many draws come before."""
    return (row << _48) | (np.uint64(cell) << _32) | (row * num_negatives)


@nb.njit(inline="always")
def replace_late(
    cell_table: int, notes: int, num_cells: int, ranks: int, hits: int, num_hits: int
) -> None:
    """Put what stands in for them in place of the excluded ones of the draws that waited.

    :param notes: address of the notes of a block, see :mod:`.plan`
    :param ranks: address of the ranks of a block
    """
    for i in range(num_hits):
        hit = load_uint64(hits, i)
        j, cell = hit & _LOW, (hit >> _32) & _LOW_16
        note = ((hit >> _48) * num_cells + cell) * NOTE_SIZE
        start = load_uint64(notes, note + NOTE_START)
        length = load_uint64(notes, note + NOTE_LENGTH)
        lists = at.field(cell_table, cell, at.KNOWN_LISTS)
        rank = np.uint64(load_uint32(ranks, j))
        store_uint32(ranks, j, np.uint32(stand_in_of(lists, start, length, rank)))


@nb.njit(inline="always")
def flag_known(
    cell_table: int, plans: int, cell: int, ranks: int, begin: int, end: int, hits: int, mask: int
) -> None:
    """Set the flags of draws that are in the list of known values to 0.

    :param mask: address of the positive's flags, uint8
    """
    length = get(plans, cell, LENGTH)
    if length > _ZERO:
        lists = at.field(cell_table, cell, at.KNOWN_LISTS)
        num_hits = find_hits(ranks, begin, end, lists, get(plans, cell, START), length, hits, _ZERO)
        for i in range(num_hits):
            j = load_uint64(hits, i)
            if is_in_list(cell_table, plans, cell, np.uint64(load_uint32(ranks, j))):
                store_uint8(mask, j, np.uint8(0))


@nb.njit(inline="always")
def to_ids(cell_table: int, plans: int, cell: int, ranks: int, begin: int, end: int) -> None:
    """Turn ranks into ids, in place."""
    first = get(plans, cell, FIRST)
    if first != ALL_IDS:
        ids = at.field(cell_table, cell, at.CANDIDATE_IDS)
        for j in range(begin, end):
            rank = np.uint64(load_uint32(ranks, j))
            store_uint32(ranks, j, load_uint32(ids, first + rank))


@nb.njit(inline="always")
def write_ids(ids: int, k: int, replaced: int, width: int, row: int) -> None:
    """Write a row of ids in their width.

    :param ids: address of uint32
    :param replaced: address of the rows, ``width`` (1, 2 or 4) bytes an id
    """
    begin = np.uint64(row) * k
    if width == np.uint64(2):
        for j in range(k):
            store_uint16(replaced, begin + j, np.uint16(load_uint32(ids, j)))
    elif width == np.uint64(4):
        for j in range(k):
            store_uint32(replaced, begin + j, load_uint32(ids, j))
    else:
        for j in range(k):
            store_uint8(replaced, begin + j, np.uint8(load_uint32(ids, j)))


@nb.njit
def write_log_q(
    cell_table: int, plans: int, num_cells: int, shares: int, ids: int, log_q: int
) -> None:
    """Write the log probabilities of the negatives of one positive.

    :param shares: address of uint64: share of each cell in 2^-32
    :param ids: address of uint32: the new values, grouped by slot as the counts say
    :param log_q: address of the positive's float32
    """
    begin = _ZERO
    first_cell = _ZERO
    while first_cell < num_cells:
        slot = at.field(cell_table, first_cell, at.SLOT)
        end_cell = first_cell
        end = begin
        while end_cell < num_cells and at.field(cell_table, end_cell, at.SLOT) == slot:
            end += get(plans, end_cell, COUNT)
            end_cell += _ONE
        is_uniform = at.field(cell_table, first_cell, at.UNIT_STARTS) == NULL
        if end_cell == first_cell + _ONE and is_uniform:
            if end > begin:
                share = np.float64(load_uint64(shares, first_cell)) / _TWO_32
                log = np.float32(math.log(share / np.float64(get(plans, first_cell, NUM_LEGAL))))
                for j in range(begin, end):
                    store_float32(log_q, j, log)
        else:
            for j in range(begin, end):
                q = _probability(
                    cell_table, plans, first_cell, end_cell, shares, load_uint32(ids, j)
                )
                store_float32(log_q, j, np.float32(math.log(q)))
        begin = end
        first_cell = end_cell


@nb.njit
def _probability(
    cell_table: int, plans: int, first_cell: int, end_cell: int, shares: int, value: int
) -> float:
    """Probability that a negative has this slot, that of some cells, and this value."""
    q = 0.0
    for cell in range(first_cell, end_cell):
        num_legal = get(plans, cell, NUM_LEGAL)
        rank = rank_of(cell_table, plans, cell, value)
        if rank != at.NO_RANK and num_legal > _ZERO:
            num_units = unit_start(cell_table, cell, rank + _ONE) - unit_start(
                cell_table, cell, rank
            )
            share = np.float64(load_uint64(shares, cell)) / _TWO_32
            q += share * np.float64(num_units) / np.float64(num_legal)
    return q
