"""The sampling function for one negative per positive, of cells that draw uniformly from all ids.

The same function as :func:`~negserve_server.sampling.kernels.corrupt.corrupt`, for the case in
which a negative costs most. Processors can't predict which cell gives it, nor how long the list of
known values is: so the cell is computed without a branch, and values are looked up in a hash set
instead of a list. Each stage is taken for a block of positives before the next one, so that the
memory serves their loads at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.members import is_member, prefetch_member
from negserve_server.index.pair_directory import (
    find_bucket,
    find_in_bucket,
    prefetch_bucket_line,
    scattered_key,
)
from negserve_server.jit.addresses import (
    NULL,
    load_int64,
    load_uint32,
    load_uint64,
    prefetch,
    store_uint32,
    store_uint64,
)
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import LOW_32, TWO_POW_32, U0, U1, U2, U3, U8, U32
from negserve_server.sampling.kernels.corrupt import corrupt, corrupt_scratch
from negserve_server.sampling.kernels.ids import write_ids
from negserve_server.sampling.kernels.philox import fill_two_words, redraw
from negserve_server.sampling.kernels.records.arguments import (
    Batch,
    Settings,
    clear,
    cumulative_shares_of,
    is_inside,
    load_settings,
    load_triple,
    make_batch,
)
from negserve_server.sampling.kernels.records.cell_state import (
    ALL_IDS,
    FIRST_CANDIDATE,
    IS_ORIGINAL_EXTRA,
    LIST_LENGTH,
    LIST_START,
    NUM_LEGAL,
    NUM_RANKS,
    ORIGINAL,
    STATE_BYTES,
    set_state,
)
from negserve_server.sampling.kernels.records.cell_table import (
    KNOWN_LISTS,
    NUM_IDS,
    PAIR_DIRECTORY,
    PAIR_LAYOUT,
    PAIR_MULTIPLIER,
    SLOT,
    field,
)
from negserve_server.sampling.kernels.units import stand_in

#: Positives of a block.
_BLOCK = np.uint64(64)
#: Bytes of a region with one uint64 per positive of a block.
_REGION = U8 * _BLOCK


class OneScratch(NamedTuple):
    """Addresses of the scratch regions; all but the last have one row per positive of a block.

    :ivar words: first two random words, uint32, shape (64, 2)
    :ivar cells: cell that gives the negative, uint64
    :ivar keys: scattered key of the pair that stays, uint64
    :ivar originals: id that is replaced, uint64
    :ivar starts: where the bucket, then the list of known values begins, uint64
    :ivar lengths: where the bucket ends, then the length of the list, uint64
    :ivar num_legals: number of legal values, uint64
    :ivar draws: uint64
    :ivar ids: uint32
    :ivar cell_state: see :mod:`.cell_state`, uint64, shape (cells, 8)
    :ivar rest: scratch memory of ``corrupt``
    :ivar end: where the last region ends
    """

    words: int
    cells: int
    keys: int
    originals: int
    starts: int
    lengths: int
    num_legals: int
    draws: int
    ids: int
    cell_state: int
    rest: int
    end: int


@compiled
def one_scratch(begin: int, num_cells: int) -> OneScratch:
    """Lay out the scratch memory from an address on; from 0 on, ``end`` is its size in bytes.

    Both arguments are uint64.
    """
    cells = begin + _REGION
    keys = cells + _REGION
    originals = keys + _REGION
    starts = originals + _REGION
    lengths = starts + _REGION
    num_legals = lengths + _REGION
    draws = num_legals + _REGION
    ids = draws + _REGION
    cell_state = ids + _REGION
    rest = cell_state + STATE_BYTES * num_cells
    end = corrupt_scratch(rest, num_cells, U1, U0).end
    return OneScratch(
        begin,
        cells,
        keys,
        originals,
        starts,
        lengths,
        num_legals,
        draws,
        ids,
        cell_state,
        rest,
        end,
    )


@nb.njit(inline="always")
def _members_of(settings: Settings, cell: int) -> tuple[int, int]:
    """Address and layout of a cell's set of known values."""
    row = U2 * cell
    return load_uint64(settings.member_table, row), load_uint64(settings.member_table, row + U1)


@nb.njit(inline="always")
def _choose_cells(
    settings: Settings,
    batch: Batch,
    scratch: OneScratch,
    begin: int,
    num_rows: int,
    counts: NDArray[np.uint32],
) -> bool:
    """Choose the cells, write the counts, and prefetch lines of the directory.

    :return: False if an id is outside its id space
    """
    cell_table = settings.cell_table
    for row in range(num_rows):
        i = begin + row
        head, relation, tail = load_triple(batch, i)
        if not is_inside(settings, head, relation, tail):
            return False
        word = np.uint64(load_uint32(scratch.words, U2 * row))
        # Cells before the chosen one end at 0 negatives, this one and all after it at 1.
        shares = cumulative_shares_of(settings, relation)
        cell = settings.num_cells
        for other in range(settings.num_cells):
            cell -= (load_uint64(shares, other) + word) >> U32
        slot = field(cell_table, cell, SLOT)
        for column in range(3):
            counts[column, i] = np.uint32(np.uint64(column) == slot)
        original = np.uint64(load_int64(batch.positives, U3 * i + slot))
        store_uint64(scratch.originals, row, original)
        store_uint64(scratch.cells, row, cell)
        if settings.is_filtered == U0:
            continue
        # By index: a condition may become a branch that can't be predicted.
        first, second = np.uint64(slot == U0), U2 - np.uint64(slot == U2)
        layout = field(cell_table, cell, PAIR_LAYOUT)
        key = scattered_key(
            layout,
            field(cell_table, cell, PAIR_MULTIPLIER),
            load_int64(batch.positives, U3 * i + first),
            load_int64(batch.positives, U3 * i + second),
        )
        store_uint64(scratch.keys, row, key)
        prefetch_bucket_line(field(cell_table, cell, PAIR_DIRECTORY), layout, key)
    return True


@nb.njit(inline="always")
def _find_lists(settings: Settings, scratch: OneScratch, num_rows: int) -> None:
    """Look up the lists of known values, and prefetch the set's lines of the originals."""
    cell_table = settings.cell_table
    for row in range(num_rows):
        cell = load_uint64(scratch.cells, row)
        begin, end = find_bucket(
            field(cell_table, cell, PAIR_DIRECTORY),
            field(cell_table, cell, PAIR_LAYOUT),
            load_uint64(scratch.keys, row),
        )
        store_uint64(scratch.starts, row, begin)
        store_uint64(scratch.lengths, row, end)
        lists = field(cell_table, cell, KNOWN_LISTS)
        prefetch(lists, begin)
        prefetch(lists, end - U1)
    for row in range(num_rows):
        cell = load_uint64(scratch.cells, row)
        start, length = find_in_bucket(
            field(cell_table, cell, KNOWN_LISTS),
            field(cell_table, cell, PAIR_LAYOUT),
            load_uint64(scratch.keys, row),
            load_uint64(scratch.starts, row),
            load_uint64(scratch.lengths, row),
        )
        store_uint64(scratch.starts, row, start)
        store_uint64(scratch.lengths, row, length)
        members, layout = _members_of(settings, cell)
        prefetch_member(members, layout, start, load_uint64(scratch.originals, row))


@nb.njit(inline="always")
def _is_known(settings: Settings, scratch: OneScratch, row: int, value: int) -> bool:
    """Whether the list of a positive holds a value; False without a filter."""
    if settings.is_filtered == U0:
        return False
    cell = load_uint64(scratch.cells, row)
    members, layout = _members_of(settings, cell)
    lists = field(settings.cell_table, cell, KNOWN_LISTS)
    start, length = load_uint64(scratch.starts, row), load_uint64(scratch.lengths, row)
    return is_member(members, layout, lists, start, length, value)


@nb.njit(inline="always")
def _draw_block(
    settings: Settings, scratch: OneScratch, first_position: int, num_rows: int
) -> None:
    """Draw, and prefetch the set's lines of the draws."""
    for row in range(num_rows):
        cell = load_uint64(scratch.cells, row)
        num_legal = field(settings.cell_table, cell, NUM_IDS) - load_uint64(scratch.lengths, row)
        if not _is_known(settings, scratch, row, load_uint64(scratch.originals, row)):
            num_legal -= U1
        product = np.uint64(load_uint32(scratch.words, U2 * row + U1)) * num_legal
        draw = product >> U32
        # As in draw_below, for one draw.
        low = product & LOW_32
        if low < num_legal and low < (TWO_POW_32 - num_legal) % num_legal:
            draw = redraw(U0, num_legal, first_position + row, settings.seed)
        store_uint64(scratch.num_legals, row, num_legal)
        store_uint64(scratch.draws, row, draw)
        if settings.is_filtered != U0:
            members, layout = _members_of(settings, cell)
            prefetch_member(members, layout, load_uint64(scratch.starts, row), draw)


@nb.njit(inline="always")
def _replace_excluded(settings: Settings, scratch: OneScratch, num_rows: int) -> None:
    """Replace excluded draws by their stand-ins."""
    cell_table, cell_state = settings.cell_table, scratch.cell_state
    for row in range(num_rows):
        cell, original = load_uint64(scratch.cells, row), load_uint64(scratch.originals, row)
        start, length = load_uint64(scratch.starts, row), load_uint64(scratch.lengths, row)
        draw = load_uint64(scratch.draws, row)
        num_legal = load_uint64(scratch.num_legals, row)
        num_ids = field(cell_table, cell, NUM_IDS)
        is_extra = num_legal + length != num_ids
        is_excluded = is_extra and draw == original
        is_excluded = is_excluded or _is_known(settings, scratch, row, draw)
        if is_excluded and num_legal > U0:
            set_state(cell_state, cell, LIST_START, start)
            set_state(cell_state, cell, LIST_LENGTH, length)
            set_state(cell_state, cell, FIRST_CANDIDATE, ALL_IDS)
            set_state(cell_state, cell, NUM_RANKS, num_ids)
            set_state(cell_state, cell, ORIGINAL, original)
            set_state(cell_state, cell, IS_ORIGINAL_EXTRA, np.uint64(is_extra))
            set_state(cell_state, cell, NUM_LEGAL, num_legal)
            draw = stand_in(cell_table, cell_state, cell, draw)
        store_uint32(scratch.ids, row, np.uint32(draw))


@nb.njit
def corrupt_one(
    positives: NDArray[np.int64],
    first_row: int,
    end_row: int,
    position: int,
    sampler: int,
    replaced: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    scratch: int,
) -> bool:
    """Corrupt positives, one negative each; known values are excluded.

    The stages, for one block of positives at a time:

    1. choose the cells by the first random word; prefetch lines of the directory
    2. look up the buckets, then the lists of known values; prefetch the sets' lines of the
       originals
    3. draw; prefetch the set's lines of the draws
    4. replace excluded draws
    5. write the ids in the width of the output
    6. draw the negatives of cells without legal values as ``corrupt`` does

    Parameters are those of :func:`~negserve_server.sampling.kernels.corrupt.corrupt`, except that k
    is 1, neither mask nor log probabilities are written, and :func:`one_scratch` gives the size of
    ``scratch``.
    """
    settings = load_settings(sampler)
    batch = make_batch(positives, position, replaced, counts, NULL, NULL)
    regions = one_scratch(scratch, settings.num_cells)
    clear(regions.cell_state, regions.rest)
    clear(regions.starts, regions.num_legals)  # empty lists, without a filter
    for begin in range(np.uint64(first_row), np.uint64(end_row), _BLOCK):
        num_rows = min(_BLOCK, np.uint64(end_row) - begin)
        first_position = batch.position + begin
        fill_two_words(regions.words, np.int64(num_rows), first_position, settings.seed)
        if not _choose_cells(settings, batch, regions, begin, num_rows, counts):
            return False
        if settings.is_filtered != U0:
            _find_lists(settings, regions, num_rows)
        _draw_block(settings, regions, first_position, num_rows)
        _replace_excluded(settings, regions, num_rows)
        write_ids(regions.ids, num_rows, replaced + begin * settings.width, settings.width, U0)
        for row in range(num_rows):
            if load_uint64(regions.num_legals, row) == U0:
                i = np.int64(begin + row)
                corrupt(
                    positives, i, i + 1, position, sampler, replaced, counts, is_saturated,
                    NULL, NULL, regions.rest,
                )  # fmt: skip
    return True
