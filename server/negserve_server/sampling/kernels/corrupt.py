"""The sampling function, compiled: positives and their positions in, negatives out.

``docs/sampling.md`` states it in prose and formulas. Positives are taken in blocks: the words
of a block are made first, then the lists of known values of all its pairs are found, and only
then is drawn. So the memory answers many questions at once, and the touches per positive and
slot (one line of the hash table, one or two of the list) cost their share of one wait.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.addresses import (
    NOWHERE,
    is_held,
    load_uint32,
    load_uint64,
    store_float32,
    store_uint8,
)
from negserve_server.compiled import compiled
from negserve_server.sampling.kernels import places as at
from negserve_server.sampling.kernels.division import divide, settle, settle_shares
from negserve_server.sampling.kernels.draws import draw_below, draw_distinct, table_size
from negserve_server.sampling.kernels.plan import (
    NOTE_COUNT,
    NOTE_LENGTH,
    NOTE_SIZE,
    announce_list,
    find_list,
    original_of,
    plan_positive,
)
from negserve_server.sampling.kernels.rows import (
    find_owners,
    flag_known,
    replace_excluded,
    replace_value,
    to_ids,
    write_ids,
    write_log_q,
)
from negserve_server.sampling.kernels.units import COUNT, LENGTH, NUM_COLUMNS, NUM_LEGAL, get, put
from negserve_server.sampling.philox import fill_words

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_4 = np.uint64(4)
_8 = np.uint64(8)
_2_32 = np.uint64(2**32)

#: Positives of a block at most, and bytes of its words at most: a part of the nearest cache.
_BLOCK = 32
_BLOCK_BYTES = 16384


@compiled
def corrupt(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    k: int,
    cell_ends: NDArray[np.uint64],
    cell_places: NDArray[np.uint64],
    num_ids: tuple[int, int, int],
    is_exact: bool,
    is_distinct: bool,
    replaced: int,
    width: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    mask: int,
    log_q: int,
) -> bool:
    """Corrupt a batch, each positive on its own.

    :param positives: shape (n, 3)
    :param position: uint64 position of the first positive; the i-th has ``position + i``
    :param seed: uint64 key of the generator
    :param k: uint64, negatives per positive
    :param cell_ends: per relation, where each cell ends among all, as shares in 2^-32, shape
        (num_relations, cells)
    :param cell_places: where each cell's arrays are, shape (cells, 14), see :mod:`.places`; the
        caller keeps them alive
    :param num_ids: how many ids each slot has
    :param is_exact: whether known values are excluded; else they are flagged in the mask
    :param is_distinct: whether the values of a cell are pairwise different
    :param replaced: address, written, shape (n, k)
    :param width: bytes of an id: 1, 2 or 4
    :param counts: written, negatives per slot of each positive, shape (3, n)
    :param is_saturated: written, where some negative had no legal value, shape (n,)
    :param mask: address of flags, uint8 of shape (n, k), all 1; nowhere for none
    :param log_q: address, float32 of shape (n, k), written; nowhere for none
    :return: False, with nothing of use written, if an id is outside its id space
    """
    num_cells = np.uint64(cell_places.shape[0])
    places = np.uint64(cell_places.ctypes.data)
    num_words = (k + _4) // _4 * _4  # one more than k, rounded up to whole blocks of four
    block = max(1, min(_BLOCK, _BLOCK_BYTES // np.int64(_4 * num_words)))
    # Scratch, held by these names and used by address.
    words_array = np.empty(block * np.int64(num_words), dtype=np.uint32)
    notes_array = np.zeros(block * np.int64(num_cells * NOTE_SIZE), dtype=np.uint64)
    rows_array = np.empty(3 * np.int64(k) + 1, dtype=np.uint32)
    plans_array = np.zeros(np.int64(num_cells) * NUM_COLUMNS, dtype=np.uint64)
    shares_array = np.zeros(np.int64(num_cells), dtype=np.uint64)
    table_array = np.zeros(table_size(k) if is_distinct else 2, dtype=np.uint64)
    ranks = np.uint64(rows_array.ctypes.data)
    hits = ranks + _8 * k
    plans = np.uint64(plans_array.ctypes.data)
    shares = np.uint64(shares_array.ctypes.data)
    table = np.uint64(table_array.ctypes.data)
    table_mask = np.uint64(len(table_array) // 2 - 1)
    tag = _ZERO

    with_all = log_q != NOWHERE  # the probability of a value concerns cells without negatives, too
    is_filtered = False
    last_slot = _ZERO
    for cell in range(num_cells):
        is_filtered |= at.column(places, cell, at.TABLE_MASK) > _ZERO
        last_slot = at.column(places, cell, at.SLOT)

    for block_begin in range(0, positives.shape[0], block):
        block_end = min(block_begin + block, positives.shape[0])

        # First, the words and the division, and ask for the pairs.
        for i in range(block_begin, block_end):
            head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
            if not (
                0 <= head < num_ids[0] and 0 <= relation < num_ids[1] and 0 <= tail < num_ids[2]
            ):
                return False
            in_block = np.uint64(i - block_begin)
            words = np.uint64(words_array.ctypes.data) + in_block * num_words * _4
            notes = np.uint64(notes_array.ctypes.data) + in_block * num_cells * NOTE_SIZE * _8
            num_blocks = np.int64(num_words // _4)
            fill_words(words, num_blocks, np.uint64(position) + np.uint64(i), seed)
            word = np.uint64(load_uint32(words, _ZERO))
            divide(cell_ends, relation, num_cells, k, word, notes)
            if is_filtered:
                for cell in range(num_cells):
                    note = np.uint64(cell) * NOTE_SIZE
                    if with_all or load_uint64(notes, note + NOTE_COUNT) > _ZERO:
                        announce_list(places, cell, head, relation, tail)

        # Second, the pairs, and ask for their lists.
        if is_filtered:
            for i in range(block_begin, block_end):
                head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
                in_block = np.uint64(i - block_begin)
                notes = np.uint64(notes_array.ctypes.data) + in_block * num_cells * NOTE_SIZE * _8
                for cell in range(num_cells):
                    note = np.uint64(cell) * NOTE_SIZE
                    if with_all or load_uint64(notes, note + NOTE_COUNT) > _ZERO:
                        find_list(places, notes, cell, head, relation, tail)

        # Third, the draws.
        for i in range(block_begin, block_end):
            head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
            in_block = np.uint64(i - block_begin)
            words = np.uint64(words_array.ctypes.data) + in_block * num_words * _4
            notes = np.uint64(notes_array.ctypes.data) + in_block * num_cells * NOTE_SIZE * _8
            own_position = np.uint64(position) + np.uint64(i)
            num_homeless = _ZERO
            if not plan_positive(
                places, plans, notes, num_cells, head, relation, tail,
                is_exact, is_distinct, with_all,
            ):  # fmt: skip
                if is_filtered:
                    for cell in range(num_cells):
                        find_list(places, notes, cell, head, relation, tail)
                plan_positive(
                    places, plans, notes, num_cells, head, relation, tail,
                    is_exact, is_distinct, True,
                )  # fmt: skip
                num_homeless = settle(places, plans, num_cells, is_distinct)
            is_saturated[i] = num_homeless > _ZERO

            own_mask = mask + np.uint64(i) * k if mask != NOWHERE else NOWHERE
            for slot in range(3):
                counts[slot, i] = 0
            begin = _ZERO
            for cell in range(num_cells):
                count = get(plans, cell, COUNT)
                if count == _ZERO:
                    continue
                end = begin + count
                counts[at.column(places, cell, at.SLOT), i] += np.uint32(count)
                num_legal = get(plans, cell, NUM_LEGAL)
                if is_distinct:
                    tag += _2_32
                    draw_distinct(
                        words, ranks, begin, end, num_legal, own_position, seed,
                        table, table_mask, tag,
                    )  # fmt: skip
                else:
                    draw_below(words, ranks, begin, end, num_legal, own_position, seed)
                units = ranks
                if at.column(places, cell, at.UNIT_STARTS) != NOWHERE:
                    units = ranks + _4 * k
                    find_owners(places, cell, ranks, units, begin, end)
                replace_excluded(places, plans, cell, ranks, units, begin, end, hits)
                if is_filtered and not is_exact:
                    note = np.uint64(cell) * NOTE_SIZE
                    put(plans, cell, LENGTH, load_uint64(notes, note + NOTE_LENGTH))
                    flag_known(places, plans, cell, ranks, begin, end, hits, own_mask)
                to_ids(places, plans, cell, ranks, begin, end)
                begin = end

            if num_homeless > _ZERO:
                # Nothing is legal: any id but the original in the last slot, and not valid.
                counts[last_slot, i] += np.uint32(num_homeless)
                last = np.uint64(num_ids[last_slot]) - _ONE
                draw_below(words, ranks, begin, k, last, own_position, seed)
                original = original_of(last_slot, head, relation, tail)
                replace_value(ranks, begin, k, np.uint32(original), np.uint32(last))
                for j in range(begin, k):
                    if mask != NOWHERE:
                        store_uint8(own_mask, j, np.uint8(0))
            write_ids(ranks, k, replaced, width, i)

            if log_q != NOWHERE:
                settle_shares(cell_ends, relation, places, plans, num_cells, shares)
                write_log_q(places, plans, num_cells, shares, ranks, log_q + _4 * np.uint64(i) * k)
                for j in range(begin, k):
                    store_float32(log_q + _4 * np.uint64(i) * k, j, np.float32(0.0))
    return (
        is_held(words_array)
        and is_held(notes_array)
        and is_held(rows_array)
        and is_held(plans_array)
        and is_held(shares_array)
        and is_held(table_array)
    )
