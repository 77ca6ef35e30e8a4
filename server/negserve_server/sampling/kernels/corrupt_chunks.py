"""The sampling function where chunks of positives share their negatives.

One set of k values per chunk of positions, and a mask per positive that says which of them are
negatives of it (``docs/sampling.md``, *Chunks*).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import (
    NULL,
    load_uint32,
    load_uint64,
    store_uint8,
    store_uint32,
    store_uint64,
)
from negserve_server.jit.compiled import compiled
from negserve_server.sampling.kernels import cell_table as at
from negserve_server.sampling.kernels.division import divide, settle_shares
from negserve_server.sampling.kernels.draws import draw_below, draw_distinct, table_size
from negserve_server.sampling.kernels.philox import fill_words
from negserve_server.sampling.kernels.plan import (
    NOTE_COUNT,
    NOTE_LENGTH,
    NOTE_SIZE,
    NOTE_START,
    find_list,
    original_of,
)
from negserve_server.sampling.kernels.rows import (
    find_owners,
    flag_known,
    to_ids,
    write_ids,
    write_log_q,
)
from negserve_server.sampling.kernels.units import (
    COUNT,
    LENGTH,
    NUM_COLUMNS,
    NUM_LEGAL,
    NUM_RANKS,
    START,
    get,
    plan_candidates,
    put,
    unit_start,
)

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_4 = np.uint64(4)
_7 = np.uint64(7)
_8 = np.uint64(8)
_12 = np.uint64(12)
_2_32 = np.uint64(2**32)


@compiled
def chunks_scratch(num_cells: int, k: int, is_distinct: bool) -> tuple[int, ...]:
    """Say where what is in the scratch memory, in bytes from its begin, and last where it ends.

    :param num_cells: uint64
    :param k: uint64, negatives per chunk
    :return: as uint64 each, the cell_table of: three rows of k, before which are the words; hits;
        notes; plans; shares; table of distinct values; end
    """
    num_words = (k + _4) // _4 * _4
    rows = _4 * num_words
    hits = rows + (_12 * k + _7) // _8 * _8
    notes = hits + _8 * (k + _ONE)
    plans = notes + _8 * NOTE_SIZE * num_cells
    shares = plans + _8 * np.uint64(NUM_COLUMNS) * num_cells
    table = shares + _8 * num_cells
    size = np.uint64(table_size(k)) if is_distinct else _ZERO
    return rows, hits, notes, plans, shares, table, table + _8 * size


@compiled
def corrupt_chunks(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    k: int,
    cell_ends: int,
    ends_stride: int,
    cell_table: int,
    num_cells: int,
    num_ids: tuple[int, int, int],
    chunk_size: int,
    is_distinct: bool,
    replaced: int,
    width: int,
    counts: NDArray[np.uint32],
    mask: int,
    log_q: int,
    scratch: int,
) -> bool:
    """Corrupt a batch, one set of values per chunk.

    Parameters are those of :func:`negserve_server.sampling.kernels.corrupt.corrupt`, but for

    :param chunk_size: uint64, positions that share a row
    :param replaced: address, written, shape (chunks, k)
    :param scratch: address of memory to write to, as much as :func:`chunks_scratch` says

    and ``is_exact`` and ``is_saturated``, which are not there, since nothing is excluded.
    """
    num_words = (k + _4) // _4 * _4
    rows_at, hits_at, notes_at, plans_at, shares_at, table_at, end_at = chunks_scratch(
        num_cells, k, is_distinct
    )
    words = scratch
    ranks = scratch + rows_at
    units = ranks + _4 * k
    ids = units + _4 * k
    hits = scratch + hits_at
    notes = scratch + notes_at
    plans = scratch + plans_at
    shares = scratch + shares_at
    table = scratch + table_at
    table_mask = ((end_at - table_at) >> _4) - _ONE
    for i in range((end_at - notes_at) // _8):
        store_uint64(notes, i, _ZERO)
    is_weighted = at.field(cell_table, _ZERO, at.UNIT_STARTS) != NULL
    tag = _ZERO
    row = -1

    for i in range(positives.shape[0]):
        head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
        if not (0 <= head < num_ids[0] and 0 <= relation < num_ids[1] and 0 <= tail < num_ids[2]):
            return False
        own_position = np.uint64(position) + np.uint64(i)
        chunk = own_position // chunk_size
        is_first = i == 0 or own_position % chunk_size == _ZERO
        if is_first:
            row += 1
            fill_words(words, np.int64(num_words // _4), chunk, seed)
        word = np.uint64(load_uint32(words, _ZERO))
        ends = cell_ends + ends_stride * np.uint64(relation)
        divide(ends, num_cells, k, word, notes)
        for cell in range(num_cells):
            note = np.uint64(cell) * NOTE_SIZE
            slot = at.field(cell_table, cell, at.SLOT)
            put(plans, cell, COUNT, load_uint64(notes, note + NOTE_COUNT))
            put(plans, cell, LENGTH, _ZERO)
            original = original_of(slot, head, relation, tail)
            plan_candidates(cell_table, plans, cell, original, relation)
            num_units = unit_start(cell_table, cell, get(plans, cell, NUM_RANKS))
            put(plans, cell, NUM_LEGAL, num_units)

        if is_first:
            # Without weights all cells have the same candidates, so that the first stands for all.
            begin = _ZERO
            for cell in range(num_cells if is_weighted else _ONE):
                end = begin + get(plans, cell, COUNT) if is_weighted else k
                num_legal = get(plans, cell, NUM_LEGAL)
                if is_distinct:
                    tag += _2_32
                    draw_distinct(
                        words, ranks, begin, end, num_legal, chunk, seed,
                        table, table_mask, tag,
                    )  # fmt: skip
                elif end > begin:
                    draw_below(words, ranks, begin, end, num_legal, chunk, seed)
                if is_weighted:
                    find_owners(cell_table, cell, ranks, units, begin, end)
                for j in range(begin, end):
                    store_uint32(ids, j, load_uint32(ranks, j))
                to_ids(cell_table, plans, cell, ids, begin, end)
                begin = end
            write_ids(ids, k, replaced, width, row)

        own_mask = mask + np.uint64(i) * k
        begin = _ZERO
        for slot in range(3):
            counts[slot, i] = np.uint32(0)
        for cell in range(num_cells):
            count = get(plans, cell, COUNT)
            end = begin + count
            slot = at.field(cell_table, cell, at.SLOT)
            counts[slot, i] += np.uint32(count)
            original_id = np.uint32(original_of(slot, head, relation, tail))
            for j in range(begin, end):
                store_uint8(own_mask, j, np.uint8(load_uint32(ids, j) != original_id))
            if count > _ZERO and at.field(cell_table, cell, at.PAIR_TABLE_MASK) > _ZERO:
                find_list(cell_table, notes, cell, head, relation, tail)
                note = np.uint64(cell) * NOTE_SIZE
                put(plans, cell, START, load_uint64(notes, note + NOTE_START))
                put(plans, cell, LENGTH, load_uint64(notes, note + NOTE_LENGTH))
                flag_known(cell_table, plans, cell, ranks, begin, end, hits, own_mask)
            begin = end

        if log_q != NULL:
            settle_shares(ends, cell_table, plans, num_cells, shares)
            write_log_q(cell_table, plans, num_cells, shares, ids, log_q + _4 * np.uint64(i) * k)
    return True
