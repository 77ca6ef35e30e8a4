"""The sampling function where chunks of positives share their negatives.

One set of k values per chunk of positions, and a mask per positive of the values that are
negatives of it (``docs/sampling.md``, *Chunks*).
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import (
    NULL,
    load_uint32,
    store_uint8,
    store_uint32,
)
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U0, U1, U4, U7, U8, U12, U32
from negserve_server.sampling.kernels.allocation import allocate, reallocate_shares
from negserve_server.sampling.kernels.draws import draw_below, draw_distinct, table_size
from negserve_server.sampling.kernels.exclusion import find_owners, flag_known
from negserve_server.sampling.kernels.ids import to_ids, write_ids
from negserve_server.sampling.kernels.log_probabilities import write_log_q
from negserve_server.sampling.kernels.philox import fill_words
from negserve_server.sampling.kernels.preparation import set_candidates
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
    COUNT,
    LIST_LENGTH,
    LIST_START,
    NUM_LEGAL,
    NUM_RANKS,
    STATE_BYTES,
    set_state,
    state,
)
from negserve_server.sampling.kernels.records.cell_table import SLOT, UNIT_STARTS, field
from negserve_server.sampling.kernels.records.lookups import (
    LOOKUP_BYTES,
    LOOKUP_COUNT,
    LOOKUP_LENGTH,
    LOOKUP_START,
    find_list_now,
    lookup,
    original_of,
)
from negserve_server.sampling.kernels.units import unit_start


class ChunksScratch(NamedTuple):
    """Addresses of the scratch regions.

    :ivar words: random words of a chunk, uint32, shape (num_words,)
    :ivar ranks: ranks of a chunk, uint32, shape (k,)
    :ivar units: their units, uint32, shape (k,)
    :ivar ids: their ids, uint32, shape (k,)
    :ivar hits: draws that may be known, uint64, shape (k + 1,)
    :ivar lookups: of one positive, see :mod:`.lookups`, uint64, shape (cells, 3)
    :ivar cell_state: see :mod:`.cell_state`, uint64, shape (cells, 8)
    :ivar shares: uint64, shape (cells,)
    :ivar table: moved places of distinct draws, uint64, shape (capacity, 2)
    :ivar end: where the last region ends
    """

    words: int
    ranks: int
    units: int
    ids: int
    hits: int
    lookups: int
    cell_state: int
    shares: int
    table: int
    end: int


@nb.njit(inline="always")
def _num_words(k: int) -> int:
    """Random words of a chunk: k + 1, rounded up to whole blocks of four."""
    return (k + U4) // U4 * U4


@compiled
def chunks_scratch(begin: int, num_cells: int, k: int, is_distinct: int) -> ChunksScratch:
    """Lay out the scratch memory from an address on; from 0 on, ``end`` is its size in bytes.

    All arguments are uint64.
    """
    ranks = begin + U4 * _num_words(k)
    units = ranks + U4 * k
    ids = units + U4 * k
    hits = ranks + (U12 * k + U7) // U8 * U8
    lookups = hits + U8 * (k + U1)
    cell_state = lookups + LOOKUP_BYTES * num_cells
    shares = cell_state + STATE_BYTES * num_cells
    table = shares + U8 * num_cells
    end = table + (U8 * np.uint64(table_size(k)) if is_distinct != U0 else U0)
    return ChunksScratch(begin, ranks, units, ids, hits, lookups, cell_state, shares, table, end)


@nb.njit(inline="always")
def _prepare_positive(
    settings: Settings, batch: Batch, scratch: ChunksScratch, i: int, word: int
) -> None:
    """Allocate the negatives of a positive to its cells, none of whose values is excluded."""
    head, relation, tail = load_triple(batch, i)
    cell_table, cell_state = settings.cell_table, scratch.cell_state
    shares = cumulative_shares_of(settings, relation)
    allocate(shares, settings.num_cells, settings.k, word, scratch.lookups)
    for cell in range(settings.num_cells):
        set_state(cell_state, cell, COUNT, lookup(scratch.lookups, cell, LOOKUP_COUNT))
        set_state(cell_state, cell, LIST_LENGTH, U0)
        original = original_of(field(cell_table, cell, SLOT), head, relation, tail)
        set_candidates(cell_table, cell_state, cell, original, relation)
        num_units = unit_start(cell_table, cell, state(cell_state, cell, NUM_RANKS))
        set_state(cell_state, cell, NUM_LEGAL, num_units)


@nb.njit(inline="always")
def _draw_chunk(settings: Settings, scratch: ChunksScratch, chunk: int, row: int) -> None:
    """Draw ranks and ids of a chunk, as the first positive in it has prepared the cells.

    :param chunk: position of the first positive divided by the chunk size
    :param row: index of the chunk in this call
    """
    cell_table, cell_state, num_cells = settings.cell_table, scratch.cell_state, settings.num_cells
    is_weighted = field(cell_table, U0, UNIT_STARTS) != NULL
    begin = U0
    # Without weights, all cells have the same candidates: the first draws for all.
    for cell in range(num_cells if is_weighted else U1):
        end = begin + state(cell_state, cell, COUNT) if is_weighted else settings.k
        num_legal = state(cell_state, cell, NUM_LEGAL)
        if settings.is_distinct != U0:
            # A number of its own for each permutation of the call, from 1 on.
            tag = (row * num_cells + cell + U1) << U32
            table_mask = ((scratch.end - scratch.table) >> U4) - U1
            draw_distinct(
                scratch.words, scratch.ranks, begin, end, num_legal, chunk, settings.seed,
                scratch.table, table_mask, tag,
            )  # fmt: skip
        elif end > begin:
            draw_below(scratch.words, scratch.ranks, begin, end, num_legal, chunk, settings.seed)
        if is_weighted:
            find_owners(cell_table, cell, scratch.ranks, scratch.units, begin, end)
        for j in range(begin, end):
            store_uint32(scratch.ids, j, load_uint32(scratch.ranks, j))
        to_ids(cell_table, cell_state, cell, scratch.ids, begin, end)
        begin = end


@nb.njit(inline="always")
def _flag_cell(
    settings: Settings,
    batch: Batch,
    scratch: ChunksScratch,
    i: int,
    cell: int,
    begin: int,
    end: int,
) -> None:
    """Write the mask of a positive for the values of a cell: neither the original nor known."""
    cell_table, cell_state = settings.cell_table, scratch.cell_state
    head, relation, tail = load_triple(batch, i)
    mask = batch.mask + i * settings.k
    original = np.uint32(original_of(field(cell_table, cell, SLOT), head, relation, tail))
    for j in range(begin, end):
        store_uint8(mask, j, np.uint8(load_uint32(scratch.ids, j) != original))
    if end > begin and settings.is_filtered != U0:
        lookups = scratch.lookups
        find_list_now(cell_table, lookups, cell, head, relation, tail)
        set_state(cell_state, cell, LIST_START, lookup(lookups, cell, LOOKUP_START))
        set_state(cell_state, cell, LIST_LENGTH, lookup(lookups, cell, LOOKUP_LENGTH))
        flag_known(cell_table, cell_state, cell, scratch.ranks, begin, end, scratch.hits, mask)


@nb.njit
def corrupt_chunks(
    positives: NDArray[np.int64],
    first_row: int,
    end_row: int,
    position: int,
    sampler: int,
    replaced: int,
    counts: NDArray[np.uint32],
    mask: int,
    log_q: int,
    scratch: int,
) -> bool:
    """Corrupt positives, one set of values per chunk.

    The stages, for one positive at a time:

    1. allocate its negatives to cells; prepare these, with no value excluded
    2. for the first positive of a chunk: draw the values, and write them
    3. per cell: flag values that are the original or known
    4. write log probabilities

    Parameters are those of :func:`~negserve_server.sampling.kernels.corrupt.corrupt`, except that
    ``replaced`` has shape (chunks, k) from the chunk of ``first_row`` on, ``mask`` is never NULL,
    and :func:`chunks_scratch` gives the size of ``scratch``. Nothing is excluded, so no positive is
    saturated.
    """
    settings = load_settings(sampler)
    batch = make_batch(positives, position, replaced, counts, mask, log_q)
    cell_table, num_cells, k = settings.cell_table, settings.num_cells, settings.k
    regions = chunks_scratch(scratch, num_cells, k, settings.is_distinct)
    cell_state = regions.cell_state
    clear(regions.lookups, regions.end)
    row = U0
    for i in range(np.uint64(first_row), np.uint64(end_row)):
        head, relation, tail = load_triple(batch, i)
        if not is_inside(settings, head, relation, tail):
            return False
        own_position = batch.position + i
        chunk = own_position // settings.chunk_size
        is_first = i == np.uint64(first_row) or own_position % settings.chunk_size == U0
        if is_first:
            fill_words(regions.words, np.int64(_num_words(k) // U4), chunk, settings.seed)
        word = np.uint64(load_uint32(regions.words, U0))
        _prepare_positive(settings, batch, regions, i, word)
        if is_first:
            _draw_chunk(settings, regions, chunk, row)
            write_ids(regions.ids, k, replaced, settings.width, row)
            row += U1

        for slot in range(3):
            counts[slot, i] = np.uint32(0)
        begin = U0
        for cell in range(num_cells):
            count = state(cell_state, cell, COUNT)
            counts[field(cell_table, cell, SLOT), i] += np.uint32(count)
            _flag_cell(settings, batch, regions, i, cell, begin, begin + count)
            begin += count

        if log_q != NULL:
            shares = cumulative_shares_of(settings, relation)
            reallocate_shares(shares, cell_table, cell_state, num_cells, regions.shares)
            own_log_q = log_q + U4 * i * k
            write_log_q(cell_table, cell_state, num_cells, regions.shares, regions.ids, own_log_q)
    return True
