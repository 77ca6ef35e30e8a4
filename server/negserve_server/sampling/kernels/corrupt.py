"""The sampling function, compiled: positives and their positions in, negatives out.

``docs/sampling.md`` defines it. Positives are processed in blocks, one stage after the other for
all positives of a block: so the memory serves the loads of many positives at once, and a positive
and slot costs a share of one wait for its line of the directory, its bucket and its long list.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import (
    NULL,
    load_uint32,
    store_float32,
    store_uint8,
    store_uint32,
)
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U0, U1, U4, U7, U8, U32
from negserve_server.sampling.kernels.allocation import allocate, reallocate, reallocate_shares
from negserve_server.sampling.kernels.draws import draw_below, draw_distinct, table_size
from negserve_server.sampling.kernels.exclusion import (
    deferred_tag,
    find_owners,
    flag_known,
    replace_deferred,
    replace_excluded,
    replace_value,
)
from negserve_server.sampling.kernels.ids import to_ids, write_ids
from negserve_server.sampling.kernels.log_probabilities import write_log_q
from negserve_server.sampling.kernels.philox import fill_words
from negserve_server.sampling.kernels.preparation import prepare_cells
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
    COUNT,
    FIRST_CANDIDATE,
    LIST_LENGTH,
    NUM_LEGAL,
    STATE_BYTES,
    set_state,
    state,
)
from negserve_server.sampling.kernels.records.cell_table import SLOT, UNIT_STARTS, field
from negserve_server.sampling.kernels.records.lookups import (
    LOOKUP_BYTES,
    LOOKUP_COUNT,
    LOOKUP_LENGTH,
    ask_for_bucket,
    ask_for_line,
    find_list,
    find_list_now,
    lookup,
    original_of,
)

#: Most positives of a block, and most bytes of its words: a part of the first-level cache.
_BLOCK = np.uint64(32)
_BLOCK_BYTES = np.uint64(16384)


class CorruptScratch(NamedTuple):
    """Addresses of the scratch regions, for blocks of b positives.

    :ivar words: random words, uint32, shape (b, num_words)
    :ivar ranks: draws, then ranks, then ids, uint32, shape (b, k)
    :ivar units: units of one positive, uint32, shape (k,)
    :ivar hits: deferred hits, uint64, shape (b * k + 1,)
    :ivar lookups: see :mod:`.lookups`, uint64, shape (b, cells, 3)
    :ivar cell_state: see :mod:`.cell_state`, uint64, shape (cells, 8)
    :ivar shares: uint64, shape (cells,)
    :ivar table: moved places of distinct draws, uint64, shape (capacity, 2)
    :ivar end: where the last region ends
    """

    words: int
    ranks: int
    units: int
    hits: int
    lookups: int
    cell_state: int
    shares: int
    table: int
    end: int


@nb.njit(inline="always")
def _num_words(k: int) -> int:
    """Random words of a positive: k + 1, rounded up to whole blocks of four."""
    return (k + U4) // U4 * U4


@nb.njit(inline="always")
def _block_size(k: int) -> int:
    """Positives of a block."""
    return max(U1, min(_BLOCK, _BLOCK_BYTES // (U4 * _num_words(k))))


@compiled
def corrupt_scratch(begin: int, num_cells: int, k: int, is_distinct: int) -> CorruptScratch:
    """Lay out the scratch memory from an address on; from 0 on, ``end`` is its size in bytes.

    All arguments are uint64.
    """
    block = _block_size(k)
    ranks = begin + U4 * _num_words(k) * block
    units = ranks + U4 * k * block
    hits = begin + (units - begin + U4 * k + U7) // U8 * U8
    lookups = hits + U8 * (k * block + U1)
    cell_state = lookups + LOOKUP_BYTES * num_cells * block
    shares = cell_state + STATE_BYTES * num_cells
    table = shares + U8 * num_cells
    end = table + (U8 * np.uint64(table_size(k)) if is_distinct != U0 else U0)
    return CorruptScratch(begin, ranks, units, hits, lookups, cell_state, shares, table, end)


@nb.njit(inline="always")
def _allocate_block(
    settings: Settings, batch: Batch, scratch: CorruptScratch, begin: int, end: int
) -> bool:
    """Make the words of a block, allocate its negatives, and prefetch lines of the directory.

    :return: False if an id is outside its id space
    """
    num_words = _num_words(settings.k)
    needs_all = batch.log_q != NULL
    for i in range(begin, end):
        head, relation, tail = load_triple(batch, i)
        if not is_inside(settings, head, relation, tail):
            return False
        words = scratch.words + (i - begin) * num_words * U4
        lookups = scratch.lookups + (i - begin) * settings.num_cells * LOOKUP_BYTES
        fill_words(words, np.int64(num_words // U4), batch.position + i, settings.seed)
        word = np.uint64(load_uint32(words, U0))
        shares = cumulative_shares_of(settings, relation)
        allocate(shares, settings.num_cells, settings.k, word, lookups)
        if settings.is_filtered != U0:
            for cell in range(settings.num_cells):
                if needs_all or lookup(lookups, cell, LOOKUP_COUNT) > U0:
                    ask_for_line(settings.cell_table, lookups, cell, head, relation, tail)
    return True


@nb.njit(inline="always")
def _find_block_lists(
    settings: Settings, batch: Batch, scratch: CorruptScratch, begin: int, end: int
) -> None:
    """Look up the lists of known values of a block, and prefetch them."""
    needs_all = batch.log_q != NULL
    for row in range(end - begin):
        lookups = scratch.lookups + row * settings.num_cells * LOOKUP_BYTES
        for cell in range(settings.num_cells):
            if needs_all or lookup(lookups, cell, LOOKUP_COUNT) > U0:
                ask_for_bucket(settings.cell_table, lookups, cell)
    for row in range(end - begin):
        lookups = scratch.lookups + row * settings.num_cells * LOOKUP_BYTES
        for cell in range(settings.num_cells):
            if needs_all or lookup(lookups, cell, LOOKUP_COUNT) > U0:
                find_list(settings.cell_table, lookups, cell)


@nb.njit(inline="always")
def _prepare_positive(
    settings: Settings, batch: Batch, scratch: CorruptScratch, lookups: int, i: int
) -> int:
    """Prepare the cells of a positive, and reallocate negatives where they need it.

    :return: the unplaced negatives
    """
    head, relation, tail = load_triple(batch, i)
    is_exact, is_distinct = settings.is_exact != U0, settings.is_distinct != U0
    if prepare_cells(
        settings.cell_table, scratch.cell_state, lookups, settings.num_cells,
        head, relation, tail, is_exact, is_distinct, batch.log_q != NULL,
    ):  # fmt: skip
        return U0
    if settings.is_filtered != U0:
        for cell in range(settings.num_cells):
            find_list_now(settings.cell_table, lookups, cell, head, relation, tail)
    prepare_cells(
        settings.cell_table, scratch.cell_state, lookups, settings.num_cells,
        head, relation, tail, is_exact, is_distinct, True,
    )  # fmt: skip
    return reallocate(settings.cell_table, scratch.cell_state, settings.num_cells, is_distinct)


@nb.njit(inline="always")
def _draw_cell(
    settings: Settings,
    batch: Batch,
    scratch: CorruptScratch,
    i: int,
    row: int,
    cell: int,
    begin: int,
    end: int,
    num_hits: int,
) -> int:
    """Draw the negatives ``begin`` to ``end`` - 1 of a positive, which its cell gives.

    :param row: index of the positive in its block
    :param num_hits: deferred hits so far
    :return: deferred hits after it
    """
    cell_table, cell_state, k = settings.cell_table, scratch.cell_state, settings.k
    words = scratch.words + row * _num_words(k) * U4
    ranks = scratch.ranks + row * k * U4
    num_legal = state(cell_state, cell, NUM_LEGAL)
    position = batch.position + i
    if settings.is_distinct != U0:
        # A number of its own for each permutation of the call, from 1 on.
        tag = (i * settings.num_cells + cell + U1) << U32
        table_mask = ((scratch.end - scratch.table) >> U4) - U1
        draw_distinct(
            words, ranks, begin, end, num_legal, position, settings.seed,
            scratch.table, table_mask, tag,
        )  # fmt: skip
    else:
        draw_below(words, ranks, begin, end, num_legal, position, settings.seed)
    units = ranks
    if field(cell_table, cell, UNIT_STARTS) != NULL:
        units = scratch.units
        find_owners(cell_table, cell, ranks, units, begin, end)
    hits = scratch.hits + U8 * num_hits
    # Log probabilities, and ids that are not ranks, need the final ranks now.
    may_defer = state(cell_state, cell, FIRST_CANDIDATE) == ALL_IDS and batch.log_q == NULL
    num_hits += replace_excluded(
        cell_table, cell_state, cell, ranks, units, begin, end, hits,
        deferred_tag(row, k, cell), may_defer,
    )  # fmt: skip
    if settings.is_filtered != U0 and settings.is_exact == U0:
        lookups = scratch.lookups + row * settings.num_cells * LOOKUP_BYTES
        set_state(cell_state, cell, LIST_LENGTH, lookup(lookups, cell, LOOKUP_LENGTH))
        flag_known(cell_table, cell_state, cell, ranks, begin, end, hits, batch.mask + i * k)
    to_ids(cell_table, cell_state, cell, ranks, begin, end)
    return num_hits


@nb.njit(inline="always")
def _draw_unplaced(
    settings: Settings, batch: Batch, scratch: CorruptScratch, i: int, row: int, begin: int
) -> None:
    """Draw the negatives from ``begin`` on: in the last slot, any id but the original; invalid."""
    k = settings.k
    words = scratch.words + row * _num_words(k) * U4
    ranks = scratch.ranks + row * k * U4
    slot = field(settings.cell_table, settings.num_cells - U1, SLOT)
    _add_count(batch, slot, i, k - begin)
    num_ids = settings.num_relations if slot == U1 else settings.num_entities
    draw_below(words, ranks, begin, k, num_ids - U1, batch.position + i, settings.seed)
    head, relation, tail = load_triple(batch, i)
    original = np.uint32(original_of(slot, head, relation, tail))
    replace_value(ranks, begin, k, original, np.uint32(num_ids - U1))
    if batch.mask != NULL:
        for j in range(begin, k):
            store_uint8(batch.mask + i * k, j, np.uint8(0))


@nb.njit(inline="always")
def _write_positive_log_q(
    settings: Settings, batch: Batch, scratch: CorruptScratch, i: int, row: int, end: int
) -> None:
    """Write the log probabilities of a positive: 0 for its negatives from ``end`` on, unplaced."""
    cell_table, cell_state, k = settings.cell_table, scratch.cell_state, settings.k
    _, relation, _ = load_triple(batch, i)
    reallocate_shares(
        cumulative_shares_of(settings, relation),
        cell_table,
        cell_state,
        settings.num_cells,
        scratch.shares,
    )
    ids = scratch.ranks + row * k * U4
    log_q = batch.log_q + U4 * i * k
    write_log_q(cell_table, cell_state, settings.num_cells, scratch.shares, ids, log_q)
    for j in range(end, k):
        store_float32(log_q, j, np.float32(0.0))


@nb.njit(inline="always")
def _add_count(batch: Batch, slot: int, i: int, count: int) -> None:
    """Count negatives of a positive that replace a slot."""
    at = slot * batch.num_positives + i
    store_uint32(batch.counts, at, np.uint32(load_uint32(batch.counts, at) + np.uint32(count)))


@nb.njit
def corrupt(
    positives: NDArray[np.int64],
    first_row: int,
    end_row: int,
    position: int,
    sampler: int,
    replaced: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    mask: int,
    log_q: int,
    scratch: int,
) -> bool:
    """Corrupt positives, each on its own.

    The stages, for one block of positives at a time:

    1. allocate negatives to cells by the first random word; prefetch lines of the directory
    2. look up the buckets, then the lists of known values; prefetch them
    3. per positive: prepare its cells (legal units), reallocate where these are saturated; per
       cell: draw, replace or flag excluded draws, translate ranks to ids; then draw unplaced
       negatives and write log probabilities
    4. replace the excluded draws that stage 3 deferred
    5. write the ids in the width of the output

    :param positives: shape (n, 3)
    :param first_row: the first positive to corrupt
    :param end_row: the positive after the last one to corrupt
    :param position: uint64 position of ``positives[0]``; positive i has ``position + i``
    :param sampler: address of the :class:`.Settings`
    :param replaced: address, written, shape (n, k), ``width`` bytes an id
    :param counts: written, negatives of each slot, shape (3, n)
    :param is_saturated: written, whether negatives are unplaced, shape (n,)
    :param mask: address of uint8, shape (n, k), all 1 before; NULL for none
    :param log_q: address of float32, shape (n, k), written; NULL for none
    :param scratch: address of memory, of the size that :func:`corrupt_scratch` gives
    :return: False, with meaningless output, if an id is outside its id space
    """
    settings = load_settings(sampler)
    batch = make_batch(positives, position, replaced, counts, mask, log_q)
    cell_table, num_cells, k = settings.cell_table, settings.num_cells, settings.k
    regions = corrupt_scratch(scratch, num_cells, k, settings.is_distinct)
    cell_state = regions.cell_state
    clear(regions.lookups, regions.end)
    block = _block_size(k)
    for begin in range(np.uint64(first_row), np.uint64(end_row), block):
        end = min(begin + block, np.uint64(end_row))
        if not _allocate_block(settings, batch, regions, begin, end):
            return False
        if settings.is_filtered != U0:
            _find_block_lists(settings, batch, regions, begin, end)
        num_hits = U0
        for i in range(begin, end):
            row = i - begin
            lookups = regions.lookups + row * num_cells * LOOKUP_BYTES
            num_unplaced = _prepare_positive(settings, batch, regions, lookups, i)
            is_saturated[i] = num_unplaced > U0
            for slot in range(3):
                counts[slot, i] = np.uint32(0)
            next_draw = U0
            for cell in range(num_cells):
                count = state(cell_state, cell, COUNT)
                if count > U0:
                    _add_count(batch, field(cell_table, cell, SLOT), i, count)
                    first, next_draw = next_draw, next_draw + count
                    num_hits = _draw_cell(
                        settings, batch, regions, i, row, cell, first, next_draw, num_hits
                    )
            if num_unplaced > U0:
                _draw_unplaced(settings, batch, regions, i, row, next_draw)
            if log_q != NULL:
                _write_positive_log_q(settings, batch, regions, i, row, next_draw)
        replace_deferred(
            cell_table, regions.lookups, num_cells, regions.ranks, regions.hits, num_hits
        )
        num_values = (end - begin) * k
        write_ids(
            regions.ranks, num_values, replaced + begin * k * settings.width, settings.width, U0
        )
    return True
