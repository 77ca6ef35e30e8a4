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

from negserve_server.addresses import NOWHERE, is_held, load_uint32, load_uint64, store_uint32
from negserve_server.compiled import compiled
from negserve_server.index.kernels import find_pair, pair_key, prefetch_pair
from negserve_server.index.members import is_member, prefetch_member
from negserve_server.sampling.kernels import places as at
from negserve_server.sampling.kernels.corrupt import corrupt
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
from negserve_server.sampling.philox import fill_two_words, redraw

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_2 = np.uint64(2)
_32 = np.uint64(32)
_LOW = np.uint64(2**32 - 1)
_2_32 = np.uint64(2**32)

#: Positives of a block.
_BLOCK = 64


@compiled
def corrupt_one(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    k: int,
    cell_ends: NDArray[np.uint64],
    cell_places: NDArray[np.uint64],
    num_ids: tuple[int, int, int],
    member_places: NDArray[np.uint64],
    replaced: int,
    width: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
) -> bool:
    """Corrupt a batch, one negative per positive; what is known is excluded.

    Parameters are those of ``corrupt``, but for

    :param k: 1
    :param member_places: where each cell's set of known values is, shape (cells, 2), see
        :mod:`negserve_server.index.members`

    and neither mask nor log probabilities are written.
    """
    num_cells = np.uint64(cell_places.shape[0])
    places = np.uint64(cell_places.ctypes.data)
    sets = np.uint64(member_places.ctypes.data)
    # Scratch; what is used by address is held by its name.
    words_array = np.empty(2 * _BLOCK, dtype=np.uint32)
    plans_array = np.zeros(np.int64(num_cells) * NUM_COLUMNS, dtype=np.uint64)
    ids_array = np.empty(_BLOCK, dtype=np.uint32)
    words = np.uint64(words_array.ctypes.data)
    plans = np.uint64(plans_array.ctypes.data)
    ids = np.uint64(ids_array.ctypes.data)
    own_counts = np.zeros((3, 1), dtype=np.uint32)
    cells = np.empty(_BLOCK, dtype=np.uint64)
    keys = np.empty(_BLOCK, dtype=np.uint64)
    originals = np.empty(_BLOCK, dtype=np.uint64)
    starts = np.empty(_BLOCK, dtype=np.uint64)
    lengths = np.empty(_BLOCK, dtype=np.uint64)
    num_legals = np.empty(_BLOCK, dtype=np.uint64)
    draws = np.empty(_BLOCK, dtype=np.uint64)

    for block_begin in range(0, positives.shape[0], _BLOCK):
        num_rows = min(_BLOCK, positives.shape[0] - block_begin)
        first_position = np.uint64(position) + np.uint64(block_begin)
        fill_two_words(words, num_rows, first_position, seed)

        # First, the cells, and ask for the pairs.
        for row in range(num_rows):
            i = block_begin + row
            head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
            if not (
                0 <= head < num_ids[0] and 0 <= relation < num_ids[1] and 0 <= tail < num_ids[2]
            ):
                return False
            word = np.uint64(load_uint32(words, _2 * np.uint64(row)))
            # The cells before that of the negative end at 0, it and all after it at 1.
            cell = num_cells
            for other in range(num_cells):
                cell -= (cell_ends[relation, other] + word) >> _32
            slot = at.column(places, cell, at.SLOT)
            for column in range(3):
                counts[column, i] = np.uint32(np.uint64(column) == slot)
            entity = head if slot == _ZERO else tail
            originals[row] = np.uint64(relation if slot == _ONE else entity)
            cells[row] = cell
            key = pair_key(relation if slot == _ZERO else head, relation if slot == _2 else tail)
            keys[row] = key
            table, mask = at.column(places, cell, at.TABLE), at.column(places, cell, at.TABLE_MASK)
            prefetch_pair(table, mask, key)

        # Second, the pairs, and ask whether the originals are known.
        for row in range(num_rows):
            cell = cells[row]
            table, mask = at.column(places, cell, at.TABLE), at.column(places, cell, at.TABLE_MASK)
            start, length = find_pair(table, mask, keys[row])
            starts[row] = start
            lengths[row] = length
            members, num_buckets = load_uint64(sets, _2 * cell), load_uint64(sets, _2 * cell + _ONE)
            prefetch_member(members, num_buckets, start, originals[row])

        # Third, the draws, and ask whether they are known.
        for row in range(num_rows):
            cell, start = cells[row], starts[row]
            members, num_buckets = load_uint64(sets, _2 * cell), load_uint64(sets, _2 * cell + _ONE)
            num_legal = at.column(places, cell, at.NUM_IDS) - lengths[row]
            if not is_member(members, num_buckets, start, originals[row]):
                num_legal -= _ONE
            product = np.uint64(load_uint32(words, _2 * np.uint64(row) + _ONE)) * num_legal
            draw = product >> _32
            # As in draws.draw_below, for one.
            low = product & _LOW
            if low < num_legal and low < (_2_32 - num_legal) % num_legal:
                draw = redraw(_ZERO, num_legal, first_position + np.uint64(row), seed)
            num_legals[row] = num_legal
            draws[row] = draw
            prefetch_member(members, num_buckets, start, draw)

        # Fourth, what stands in for excluded draws.
        for row in range(num_rows):
            cell, start, length, draw = cells[row], starts[row], lengths[row], draws[row]
            num_legal = num_legals[row]
            num_cell_ids = at.column(places, cell, at.NUM_IDS)
            is_extra = num_legal + length != num_cell_ids
            members, num_buckets = load_uint64(sets, _2 * cell), load_uint64(sets, _2 * cell + _ONE)
            is_excluded = is_extra and draw == originals[row]
            is_excluded = is_excluded or is_member(members, num_buckets, start, draw)
            if is_excluded and num_legal > _ZERO:
                put(plans, cell, START, start)
                put(plans, cell, LENGTH, length)
                put(plans, cell, FIRST, ALL_IDS)
                put(plans, cell, NUM_RANKS, num_cell_ids)
                put(plans, cell, ORIGINAL, originals[row])
                put(plans, cell, IS_EXTRA, np.uint64(is_extra))
                put(plans, cell, NUM_LEGAL, num_legal)
                draw = stand_in(places, plans, cell, draw)
            store_uint32(ids, np.uint64(row), np.uint32(draw))
        write_ids(ids, np.uint64(num_rows), replaced + np.uint64(block_begin) * width, width, _ZERO)

        # Last, the cells without a legal value: what they were to give is given by another one.
        for row in range(num_rows):
            if num_legals[row] == _ZERO:
                i = block_begin + row
                # Plain True would be a type of its own, and so another compilation.
                corrupt(
                    positives[i : i + 1], first_position + np.uint64(row), seed, k,
                    cell_ends, cell_places, num_ids, np.bool_(True), np.bool_(False),
                    replaced + np.uint64(i) * width, width, own_counts,
                    is_saturated[i : i + 1], NOWHERE, NOWHERE,
                )  # fmt: skip
                for slot in range(3):
                    counts[slot, i] = own_counts[slot, 0]
    return is_held(words_array) and is_held(plans_array) and is_held(ids_array)
