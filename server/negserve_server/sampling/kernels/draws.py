"""Uniform draws from words: unbiased, with or without repetition.

Lemire: "Fast random integer generation in an interval", ACM TOMACS 29(1), 2019. The first
draw is the high half of word times range; where the low half falls into the incomplete
interval, 64 fresh bits take its place.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint32, load_uint64, store_uint32, store_uint64
from negserve_server.jit.constants import FIBONACCI, LOW_32, TWO_POW_32, U1, U32
from negserve_server.sampling.kernels.philox import redraw


@nb.njit(inline="always")
def draw_below(
    words: int, draws: int, begin: int, end: int, limit: int, position: int, seed: int
) -> None:
    """Draw numbers from 0 to ``limit`` - 1 into ``draws[begin:end]``.

    :param words: address of uint32: negative j uses word 1 + j
    :param draws: address of uint32
    """
    wide = np.uint64(limit)
    # The incomplete interval is shorter than the range: that test needs no division.
    narrow = np.uint32(wide)
    is_doubtful = np.uint32(0)
    for j in range(begin, end):
        product = np.uint64(load_uint32(words, j + U1)) * wide
        is_doubtful |= np.uint32(np.uint32(product) < narrow)
        store_uint32(draws, j, np.uint32(product >> U32))
    if is_doubtful != np.uint32(0):
        incomplete = np.uint32((TWO_POW_32 - wide) % wide)
        for j in range(begin, end):
            product = np.uint64(load_uint32(words, j + U1)) * wide
            if np.uint32(product) < incomplete:
                store_uint32(draws, j, np.uint32(redraw(j, wide, position, seed)))


@nb.njit
def table_size(num_draws: int) -> int:
    """Size of the table for so many distinct draws, in uint64."""
    capacity = 2
    while capacity < 2 * np.int64(num_draws):
        capacity *= 2
    return 2 * capacity


@nb.njit(inline="always")
def _find(table: int, mask: int, tag: int, place: int) -> int:
    """Row of the table that holds a place, or would."""
    key = tag | place
    at = ((key * FIBONACCI) >> U32) & mask
    while True:
        found = load_uint64(table, at + at)
        # What an earlier permutation left counts as empty.
        if found == key or (found & ~LOW_32) != tag:
            return at
        at = (at + U1) & mask


@nb.njit
def draw_distinct(
    words: int,
    draws: int,
    begin: int,
    end: int,
    limit: int,
    position: int,
    seed: int,
    table: int,
    mask: int,
    tag: int,
) -> None:
    """Draw different numbers from 0 to ``limit`` - 1: the beginning of a random permutation.

    Fisher and Yates' shuffle of 0, 1, ... of which only the moved cell_table are kept.

    :param table: address of uint64, shape (capacity, 2): place, and what lies there
    :param mask: capacity less one, see :func:`table_size`
    :param tag: number of this permutation, from 1 on, in the upper 32 bits
    """
    for j in range(begin, end):
        here = j - begin
        left = np.uint64(limit) - here
        product = np.uint64(load_uint32(words, j + U1)) * left
        draw = product >> U32
        if (product & LOW_32) < left and (product & LOW_32) < (TWO_POW_32 - left) % left:
            draw = redraw(j, left, position, seed)
        there = here + draw
        row = _find(table, mask, tag, here)
        value_here = here
        if load_uint64(table, row + row) == tag | here:
            value_here = load_uint64(table, row + row + U1)
        row = _find(table, mask, tag, there)
        value_there = there
        if load_uint64(table, row + row) == tag | there:
            value_there = load_uint64(table, row + row + U1)
        store_uint64(table, row + row, tag | there)
        store_uint64(table, row + row + U1, value_here)
        store_uint32(draws, j, np.uint32(value_there))
