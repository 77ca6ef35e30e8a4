"""The sampling function, compiled: positives and their positions in, negatives out.

``docs/sampling.md`` states it in prose and formulas. Positives are taken in blocks: the words
of a block are made first, then the lists of known values of all its pairs are found, then is
drawn and marked what may be known, and last the marked draws are looked up. So the memory answers
many questions at once, and the touches per positive and slot (one line of the hash table, one or
two of the list) cost their share of one wait.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import (
    NULL,
    load_uint32,
    load_uint64,
    store_float32,
    store_uint8,
    store_uint64,
)
from negserve_server.jit.compiled import compiled
from negserve_server.sampling.kernels import cell_table as at
from negserve_server.sampling.kernels.division import divide, settle, settle_shares
from negserve_server.sampling.kernels.draws import draw_below, draw_distinct, table_size
from negserve_server.sampling.kernels.philox import fill_words
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
    replace_late,
    replace_value,
    tag_of,
    to_ids,
    write_ids,
    write_log_q,
)
from negserve_server.sampling.kernels.units import (
    ALL_IDS,
    COUNT,
    FIRST,
    LENGTH,
    NUM_COLUMNS,
    NUM_LEGAL,
    get,
    put,
)

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_4 = np.uint64(4)
_7 = np.uint64(7)
_8 = np.uint64(8)
_2_32 = np.uint64(2**32)

#: Positives of a block at most, and bytes of its words at most: a part of the nearest cache.
_BLOCK = np.uint64(32)
_BLOCK_BYTES = np.uint64(16384)


@nb.njit(inline="always")
def _block_size(num_words: int) -> int:
    """Give how many positives a block has."""
    return max(_ONE, min(_BLOCK, _BLOCK_BYTES // (_4 * num_words)))


@compiled
def corrupt_scratch(num_cells: int, k: int, is_distinct: bool) -> tuple[int, ...]:
    """Say where what is in the scratch memory, in bytes from its begin, and last where it ends.

    :param num_cells: uint64
    :param k: uint64, negatives per positive
    :return: as uint64 each, the cell_table of: negatives of a block, before which are its words;
        units of a positive; hits and notes of a block; plans; shares; table of distinct values;
        end
    """
    num_words = (k + _4) // _4 * _4  # one more than k, rounded up to whole blocks of four
    block = _block_size(num_words)
    rows = _4 * num_words * block
    units = rows + _4 * k * block
    hits = (units + _4 * k + _7) // _8 * _8
    notes = hits + _8 * (k * block + _ONE)
    plans = notes + _8 * NOTE_SIZE * num_cells * block
    shares = plans + _8 * np.uint64(NUM_COLUMNS) * num_cells
    table = shares + _8 * num_cells
    size = np.uint64(table_size(k)) if is_distinct else _ZERO
    return rows, units, hits, notes, plans, shares, table, table + _8 * size


@compiled
def corrupt(
    positives: NDArray[np.int64],
    first_row: int,
    end_row: int,
    position: int,
    seed: int,
    k: int,
    cell_ends: int,
    ends_stride: int,
    cell_table: int,
    num_cells: int,
    num_ids: tuple[int, int, int],
    is_exact: bool,
    is_distinct: bool,
    replaced: int,
    width: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    mask: int,
    log_q: int,
    scratch: int,
) -> bool:
    """Corrupt a batch, each positive on its own.

    :param positives: shape (n, 3)
    :param first_row: the first of them that is corrupted
    :param end_row: the first after it that is not
    :param position: uint64 position of ``positives[0]``; the i-th has ``position + i``
    :param seed: uint64 key of the generator
    :param k: uint64, negatives per positive
    :param cell_ends: address, uint64 of shape (num_relations, cells): where each cell ends among
        all, as shares in 2^-32; shape (1, cells) if they are the same for all relations
    :param ends_stride: uint64, bytes from one relation's ends to the next one's: 0 in that case
    :param cell_table: address, uint64 of shape (cells, 15), where each cell's arrays are, see
        :mod:`.cell_table`
    :param num_cells: uint64
    :param num_ids: how many ids each slot has
    :param is_exact: whether known values are excluded; else they are flagged in the mask
    :param is_distinct: whether the values of a cell are pairwise different
    :param replaced: address, written, shape (n, k)
    :param width: bytes of an id: 1, 2 or 4
    :param counts: written, negatives per slot of each positive, shape (3, n)
    :param is_saturated: written, where some negative had no legal value, shape (n,)
    :param mask: address of flags, uint8 of shape (n, k), all 1; nowhere for none
    :param log_q: address, float32 of shape (n, k), written; nowhere for none
    :param scratch: address of memory to write to, as much as :func:`corrupt_scratch` says
    :return: False, with nothing of use written, if an id is outside its id space
    """
    num_words = (k + _4) // _4 * _4
    block = _block_size(num_words)
    ranks_at, units_at, hits_at, notes_at, plans_at, shares_at, table_at, end_at = corrupt_scratch(
        num_cells, k, is_distinct
    )
    all_ranks = scratch + ranks_at
    all_hits = scratch + hits_at
    all_notes = scratch + notes_at
    plans = scratch + plans_at
    shares = scratch + shares_at
    table = scratch + table_at
    table_mask = ((end_at - table_at) >> _4) - _ONE
    for i in range((end_at - notes_at) // _8):
        store_uint64(all_notes, i, _ZERO)
    tag = _ZERO

    with_all = log_q != NULL  # the probability of a value concerns cells without negatives, too
    is_filtered = False
    last_slot = _ZERO
    for cell in range(num_cells):
        is_filtered |= at.field(cell_table, cell, at.PAIR_TABLE_MASK) > _ZERO
        last_slot = at.field(cell_table, cell, at.SLOT)

    for block_begin in range(np.uint64(first_row), np.uint64(end_row), block):
        block_end = min(block_begin + block, np.uint64(end_row))

        # First, the words and the division, and ask for the pairs.
        for i in range(block_begin, block_end):
            head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
            if not (
                0 <= head < num_ids[0] and 0 <= relation < num_ids[1] and 0 <= tail < num_ids[2]
            ):
                return False
            in_block = i - block_begin
            words = scratch + in_block * num_words * _4
            notes = all_notes + in_block * num_cells * NOTE_SIZE * _8
            num_blocks = np.int64(num_words // _4)
            fill_words(words, num_blocks, np.uint64(position) + i, seed)
            word = np.uint64(load_uint32(words, _ZERO))
            ends = cell_ends + ends_stride * np.uint64(relation)
            divide(ends, num_cells, k, word, notes)
            if is_filtered:
                for cell in range(num_cells):
                    note = np.uint64(cell) * NOTE_SIZE
                    if with_all or load_uint64(notes, note + NOTE_COUNT) > _ZERO:
                        announce_list(cell_table, cell, head, relation, tail)

        # Second, the pairs, and ask for their lists.
        if is_filtered:
            for i in range(block_begin, block_end):
                head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
                in_block = i - block_begin
                notes = all_notes + in_block * num_cells * NOTE_SIZE * _8
                for cell in range(num_cells):
                    note = np.uint64(cell) * NOTE_SIZE
                    if with_all or load_uint64(notes, note + NOTE_COUNT) > _ZERO:
                        find_list(cell_table, notes, cell, head, relation, tail)

        # Third, the draws, and which of them may be known.
        num_hits = _ZERO
        for i in range(block_begin, block_end):
            head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
            in_block = i - block_begin
            words = scratch + in_block * num_words * _4
            notes = all_notes + in_block * num_cells * NOTE_SIZE * _8
            ranks = all_ranks + in_block * k * _4
            own_position = np.uint64(position) + i
            num_homeless = _ZERO
            if not plan_positive(
                cell_table, plans, notes, num_cells, head, relation, tail,
                is_exact, is_distinct, with_all,
            ):  # fmt: skip
                if is_filtered:
                    for cell in range(num_cells):
                        find_list(cell_table, notes, cell, head, relation, tail)
                plan_positive(
                    cell_table, plans, notes, num_cells, head, relation, tail,
                    is_exact, is_distinct, True,
                )  # fmt: skip
                num_homeless = settle(cell_table, plans, num_cells, is_distinct)
            is_saturated[i] = num_homeless > _ZERO

            own_mask = mask + i * k if mask != NULL else NULL
            for slot in range(3):
                counts[slot, i] = np.uint32(0)
            begin = _ZERO
            for cell in range(num_cells):
                count = get(plans, cell, COUNT)
                if count == _ZERO:
                    continue
                end = begin + count
                counts[at.field(cell_table, cell, at.SLOT), i] += np.uint32(count)
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
                if at.field(cell_table, cell, at.UNIT_STARTS) != NULL:
                    units = scratch + units_at
                    find_owners(cell_table, cell, ranks, units, begin, end)
                hits = all_hits + _8 * num_hits
                # What comes after for the same row needs the final values.
                may_wait = get(plans, cell, FIRST) == ALL_IDS and not with_all
                num_hits += replace_excluded(
                    cell_table, plans, cell, ranks, units, begin, end, hits,
                    tag_of(in_block, k, cell), may_wait,
                )  # fmt: skip
                if is_filtered and not is_exact:
                    note = np.uint64(cell) * NOTE_SIZE
                    put(plans, cell, LENGTH, load_uint64(notes, note + NOTE_LENGTH))
                    flag_known(cell_table, plans, cell, ranks, begin, end, hits, own_mask)
                to_ids(cell_table, plans, cell, ranks, begin, end)
                begin = end

            if num_homeless > _ZERO:
                # Nothing is legal: any id but the original in the last slot, and not valid.
                counts[last_slot, i] += np.uint32(num_homeless)
                last = np.uint64(num_ids[last_slot]) - _ONE
                draw_below(words, ranks, begin, k, last, own_position, seed)
                original = original_of(last_slot, head, relation, tail)
                replace_value(ranks, begin, k, np.uint32(original), np.uint32(last))
                for j in range(begin, k):
                    if mask != NULL:
                        store_uint8(own_mask, j, np.uint8(0))
            if log_q != NULL:
                ends = cell_ends + ends_stride * np.uint64(relation)
                settle_shares(ends, cell_table, plans, num_cells, shares)
                write_log_q(cell_table, plans, num_cells, shares, ranks, log_q + _4 * i * k)
                for j in range(begin, k):
                    store_float32(log_q + _4 * i * k, j, np.float32(0.0))

        # Last, what stands in for known draws: of all rows at once, so that neither their number
        # has to be guessed for each row, nor one row waits for the memory of another.
        replace_late(cell_table, all_notes, num_cells, all_ranks, all_hits, num_hits)
        num_values = (block_end - block_begin) * k
        write_ids(all_ranks, num_values, replaced + block_begin * k * width, width, _ZERO)
    return True
