"""The sampling function for one negative per positive, of cells that give every id uniformly.

The same function as :func:`~negserve_server.sampling.kernels.corrupt.corrupt`, for the case in
which a negative costs most. Which cell it is of, and how long the list of known values is, nobody
can guess: so the cell is computed, not branched on, and values are looked up in a set, not in
lists. Each step is taken for a block of positives before the next one, so that the memory is asked
for all lines of a step at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.index.kernels import find_pair, pair_key, prefetch_pair
from negserve_server.index.members import is_member, prefetch_member
from negserve_server.jit.addresses import (
    NULL,
    load_uint32,
    load_uint64,
    store_uint32,
    store_uint64,
)
from negserve_server.jit.compiled import compiled
from negserve_server.sampling.kernels import cell_table as at
from negserve_server.sampling.kernels.corrupt import corrupt, corrupt_scratch
from negserve_server.sampling.kernels.philox import fill_two_words, redraw
from negserve_server.sampling.kernels.rows import write_ids
from negserve_server.sampling.kernels.units import (
    ALL_IDS,
    FIRST,
    IS_EXTRA,
    LENGTH,
    NUM_COLUMNS,
    NUM_LEGAL,
    NUM_RANKS,
    ORIGINAL,
    START,
    put,
    stand_in,
)

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_2 = np.uint64(2)
_8 = np.uint64(8)
_32 = np.uint64(32)
_LOW = np.uint64(2**32 - 1)
_2_32 = np.uint64(2**32)

#: Positives of a block.
_BLOCK = np.uint64(64)
#: Bytes of a block's uint64s, one per positive.
_COLUMN = _8 * _BLOCK


@compiled
def one_scratch(num_cells: int) -> tuple[int, int, int]:
    """Say where what is in the scratch memory, in bytes from its begin, and last where it ends.

    :param num_cells: uint64
    :return: as uint64 each: place of the plans, before which are the columns of a block; place of
        what ``corrupt`` needs; end
    """
    plans = np.uint64(9) * _COLUMN
    rest = plans + np.uint64(8 * NUM_COLUMNS) * num_cells
    return plans, rest, rest + corrupt_scratch(num_cells, _ONE, np.bool_(False))[-1]


@compiled
def corrupt_one(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    k: int,
    cell_ends: int,
    ends_stride: int,
    cell_table: int,
    num_cells: int,
    num_ids: tuple[int, int, int],
    sets: int,
    replaced: int,
    width: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    scratch: int,
) -> bool:
    """Corrupt a batch, one negative per positive; what is known is excluded.

    Parameters are those of ``corrupt``, but for

    :param k: 1
    :param sets: address, uint64 of shape (cells, 2), where each cell's set of known values is, see
        :mod:`negserve_server.index.members`
    :param scratch: address of memory to write to, as much as :func:`one_scratch` says

    and neither mask nor log probabilities are written.
    """
    plans_at, rest_at, _ = one_scratch(num_cells)
    words = scratch
    cells = words + _COLUMN
    keys = cells + _COLUMN
    originals = keys + _COLUMN
    starts = originals + _COLUMN
    lengths = starts + _COLUMN
    num_legals = lengths + _COLUMN
    draws = num_legals + _COLUMN
    ids = draws + _COLUMN
    plans = scratch + plans_at
    for i in range((rest_at - plans_at) // _8):
        store_uint64(plans, i, _ZERO)

    num_positives = np.uint64(positives.shape[0])
    for block_begin in range(_ZERO, num_positives, _BLOCK):
        num_rows = min(_BLOCK, num_positives - block_begin)
        first_position = np.uint64(position) + block_begin
        fill_two_words(words, np.int64(num_rows), first_position, seed)

        # First, the cells, and ask for the pairs.
        for row in range(num_rows):
            i = block_begin + row
            head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
            if not (
                0 <= head < num_ids[0] and 0 <= relation < num_ids[1] and 0 <= tail < num_ids[2]
            ):
                return False
            word = np.uint64(load_uint32(words, _2 * row))
            # The cells before that of the negative end at 0, it and all after it at 1.
            own_ends = cell_ends + ends_stride * np.uint64(relation)
            cell = num_cells
            for other in range(num_cells):
                cell -= (load_uint64(own_ends, other) + word) >> _32
            slot = at.field(cell_table, cell, at.SLOT)
            for column in range(3):
                counts[column, i] = np.uint32(np.uint64(column) == slot)
            # By index: a condition may become a jump, which nobody can guess.
            store_uint64(originals, row, np.uint64(positives[i, slot]))
            first, second = np.uint64(slot == _ZERO), _2 - np.uint64(slot == _2)
            key = pair_key(positives[i, first], positives[i, second])
            store_uint64(cells, row, cell)
            store_uint64(keys, row, key)
            table, mask = (
                at.field(cell_table, cell, at.PAIR_TABLE),
                at.field(cell_table, cell, at.PAIR_TABLE_MASK),
            )
            prefetch_pair(table, mask, key)

        # Second, the pairs, and ask whether the originals are known.
        for row in range(num_rows):
            cell = load_uint64(cells, row)
            table, mask = (
                at.field(cell_table, cell, at.PAIR_TABLE),
                at.field(cell_table, cell, at.PAIR_TABLE_MASK),
            )
            start, length = find_pair(table, mask, load_uint64(keys, row))
            store_uint64(starts, row, start)
            store_uint64(lengths, row, length)
            members, num_buckets = load_uint64(sets, _2 * cell), load_uint64(sets, _2 * cell + _ONE)
            prefetch_member(members, num_buckets, start, load_uint64(originals, row))

        # Third, the draws, and ask whether they are known.
        for row in range(num_rows):
            cell, start = load_uint64(cells, row), load_uint64(starts, row)
            members, num_buckets = load_uint64(sets, _2 * cell), load_uint64(sets, _2 * cell + _ONE)
            num_legal = at.field(cell_table, cell, at.NUM_IDS) - load_uint64(lengths, row)
            if not is_member(members, num_buckets, start, load_uint64(originals, row)):
                num_legal -= _ONE
            product = np.uint64(load_uint32(words, _2 * row + _ONE)) * num_legal
            draw = product >> _32
            # As in draws.draw_below, for one.
            low = product & _LOW
            if low < num_legal and low < (_2_32 - num_legal) % num_legal:
                draw = redraw(_ZERO, num_legal, first_position + row, seed)
            store_uint64(num_legals, row, num_legal)
            store_uint64(draws, row, draw)
            prefetch_member(members, num_buckets, start, draw)

        # Fourth, what stands in for excluded draws.
        for row in range(num_rows):
            cell, original = load_uint64(cells, row), load_uint64(originals, row)
            start, length = load_uint64(starts, row), load_uint64(lengths, row)
            draw = load_uint64(draws, row)
            num_legal = load_uint64(num_legals, row)
            num_cell_ids = at.field(cell_table, cell, at.NUM_IDS)
            is_extra = num_legal + length != num_cell_ids
            members, num_buckets = load_uint64(sets, _2 * cell), load_uint64(sets, _2 * cell + _ONE)
            is_excluded = is_extra and draw == original
            is_excluded = is_excluded or is_member(members, num_buckets, start, draw)
            if is_excluded and num_legal > _ZERO:
                put(plans, cell, START, start)
                put(plans, cell, LENGTH, length)
                put(plans, cell, FIRST, ALL_IDS)
                put(plans, cell, NUM_RANKS, num_cell_ids)
                put(plans, cell, ORIGINAL, original)
                put(plans, cell, IS_EXTRA, np.uint64(is_extra))
                put(plans, cell, NUM_LEGAL, num_legal)
                draw = stand_in(cell_table, plans, cell, draw)
            store_uint32(ids, row, np.uint32(draw))
        write_ids(ids, num_rows, replaced + block_begin * width, width, _ZERO)

        # Last, the cells without a legal value: what they were to give is given by another one.
        for row in range(num_rows):
            if load_uint64(num_legals, row) == _ZERO:
                i = block_begin + row
                # Plain True would be a type of its own, and so another compilation.
                corrupt(
                    positives, np.int64(i), np.int64(i) + 1, position, seed, k,
                    cell_ends, ends_stride, cell_table, num_cells, num_ids,
                    np.bool_(True), np.bool_(False),
                    replaced, width, counts, is_saturated, NULL, NULL, scratch + rest_at,
                )  # fmt: skip
    return True
