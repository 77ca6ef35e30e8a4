"""Layout of the known values of pairs: sorted lists, the long ones preceded by a bitmap.

A short list is its values. A long list is

    shift, num_words, bitmap[0], ..., bitmap[num_words - 1], counts[0], ..., counts[num_counts],
    values[0], ..., values[length - 1], stand_ins[0], ..., stand_ins[length - 1]

(uint32). For each value v, two bits of one word are set: bit ``v >> shift`` of the bitmap, of
which at most about one in 32 is set so, and bit ``v & 31`` of that word. A draw with one of its two
bits clear is not known, after one load. (Testing one bit lets 3 to 6 of 100 unknown draws pass,
testing both about 1.) Where the range of values fits 32 bits per value, the shift is 0, both bits
are the same, and the bitmap is exact. ``counts[i]`` values have their bits in words before 2 i, so
a value that may be known is searched among the two to four of its two words.

Stand-ins: of the n values that may be in a list, M are not. The stand-in of the i-th value below M
that is in the list is the i-th value from M on that is not. Values of the list from M on have no
stand-in; theirs is 0.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import load_uint32, store_uint64
from negserve_server.jit.constants import U0, U1, U2, U3, U4, U5, U31

#: Length of the longest list without a bitmap.
SHORT_LIST = 16

#: Most bits of a bitmap per value.
_BITS_PER_VALUE = 32

#: Words of a long list before its bitmap.
HEADER = 2

_SHORT = np.uint64(SHORT_LIST)
_HEADER = np.uint64(HEADER)


@nb.njit(inline="always")
def first_value(lists: int, start: int, length: int) -> int:
    """Index of the first value of a list.

    :param lists: address of the lists
    :param start: index of its first word
    :param length: number of values
    """
    if length <= _SHORT:
        return start
    num_words = np.uint64(load_uint32(lists, start + U1))
    return start + _HEADER + num_words + ((num_words + U1) >> U1) + U1


@nb.njit(inline="always")
def lower_bound(values: int, start: int, length: int, value: int) -> int:
    """Count the values below ``value`` among the ``length`` sorted ones from ``start`` on.

    :param values: address of uint32
    """
    if length == U0:
        return U0
    # Without branches that depend on the data: a misprediction costs more than a step.
    low = start
    size = length
    while size > U1:
        half = size >> U1
        low += half if load_uint32(values, low + half - U1) < value else U0
        size -= half
    return low - start + np.uint64(load_uint32(values, low) < value)


@nb.njit(inline="always")
def count_below(lists: int, start: int, length: int, value: int) -> int:
    """Count the values of a list below ``value``, which may exceed every value."""
    if length <= _SHORT:
        return lower_bound(lists, start, length, value)
    word = value >> (np.uint64(load_uint32(lists, start)) + U5)
    num_words = np.uint64(load_uint32(lists, start + U1))
    if word >= num_words:
        return length
    counts = start + _HEADER + num_words
    before = np.uint64(load_uint32(lists, counts + (word >> U1)))
    here = np.uint64(load_uint32(lists, counts + (word >> U1) + U1)) - before
    values = counts + ((num_words + U1) >> U1) + U1
    return before + lower_bound(lists, values + before, here, value)


@nb.njit(inline="always")
def is_at(lists: int, start: int, length: int, rank: int, value: int) -> bool:
    """Whether the value at a rank is ``value``; False for the rank ``length``."""
    return rank < length and load_uint32(
        lists, first_value(lists, start, length) + rank
    ) == np.uint32(value)


@nb.njit(inline="always")
def holds(lists: int, start: int, length: int, value: int) -> bool:
    """Whether a list holds a value below the number of values."""
    if length > _SHORT:
        shift = np.uint64(load_uint32(lists, start))
        bit = np.uint64(value) >> shift
        word = load_uint32(lists, start + _HEADER + (bit >> U5))
        both = (word >> np.uint32(bit & U31)) & (word >> np.uint32(np.uint64(value) & U31))
        is_set = both & np.uint32(1) != np.uint32(0)
        if shift == U0 or not is_set:
            return is_set
    return is_at(lists, start, length, count_below(lists, start, length, value), value)


@nb.njit(inline="always")
def find_hits(
    draws: int, begin: int, end: int, lists: int, start: int, length: int, hits: int, tag: int
) -> int:
    """Write the hits, which are indices of draws that the list may hold, plus a tag; count them.

    For a short list, a hit is in the list; for a long one, it need not be.

    :param draws: address of uint32; those from ``begin`` to ``end`` - 1 are looked up
    :param hits: address of uint64, room for ``end - begin + 1``, written
    :param tag: uint64, added to each index
    """
    num_hits = U0
    if length > _SHORT:
        shift = np.uint32(load_uint32(lists, start))
        bitmap = start + _HEADER
        for j in range(begin, end):
            draw = np.uint32(load_uint32(draws, j))
            bit = draw >> shift
            word = load_uint32(lists, bitmap + np.uint64(bit >> np.uint32(5)))
            is_set = (word >> (bit & np.uint32(31))) & (word >> (draw & np.uint32(31)))
            store_uint64(hits, num_hits, tag + j)
            num_hits += np.uint64(is_set & np.uint32(1))
        return num_hits
    is_any = np.uint32(0)
    # A draw is compared with four values at a time, the last one repeated.
    last = start + length - U1
    for at in range(start, start + length, U4):
        value_0 = load_uint32(lists, at)
        value_1 = load_uint32(lists, min(at + U1, last))
        value_2 = load_uint32(lists, min(at + U2, last))
        value_3 = load_uint32(lists, min(at + U3, last))
        for j in range(begin, end):
            draw = load_uint32(draws, j)
            is_any |= (
                np.uint32(draw == value_0) | np.uint32(draw == value_1)
                | np.uint32(draw == value_2) | np.uint32(draw == value_3)
            )  # fmt: skip
    if is_any != np.uint32(0):
        for j in range(begin, end):
            draw = load_uint32(draws, j)
            is_hit = np.uint32(0)
            for at in range(start, start + length):
                is_hit |= np.uint32(draw == load_uint32(lists, at))
            store_uint64(hits, num_hits, tag + j)
            num_hits += np.uint64(is_hit)
    return num_hits


@nb.njit(inline="always")
def stand_in_of(lists: int, start: int, length: int, draw: int) -> int:
    """Stand-in of a draw if the long list holds it, else the draw itself.

    :param draw: a hit of :func:`find_hits`, below M
    """
    index = count_below(lists, start, length, draw)
    at = first_value(lists, start, length) + index
    # Load both: a branch could not be predicted. There is room after the last stand-in.
    value, other = load_uint32(lists, at), np.uint64(load_uint32(lists, at + length))
    return other if (index < length) & (np.uint64(value) == draw) else draw


@nb.njit(inline="always")
def _shift_of(num_values: int, length: int) -> int:
    shift = 0
    while ((num_values - 1) >> shift) + 1 > _BITS_PER_VALUE * length:
        shift += 1
    return shift


@nb.njit
def num_long_words(length: int, num_values: int) -> int:
    """Words of a long list of values below ``num_values``; all int64."""
    num_bits = ((num_values - 1) >> _shift_of(num_values, length)) + 1
    num_words = (num_bits + 31) >> 5
    return HEADER + num_words + ((num_words + 1) >> 1) + 1 + 2 * length


@nb.njit
def _fill_stand_ins(lists: NDArray[np.uint32], first: int, length: int, num_others: int) -> None:
    """Write the stand-ins of the ``length`` values from index ``first`` on."""
    num_below = 0
    while num_below < length and lists[first + num_below] < num_others:
        num_below += 1
    above, other = num_below, num_others
    for j in range(num_below):
        while above < length and lists[first + above] == other:
            above += 1
            other += 1
        lists[first + length + j] = other
        other += 1


@nb.njit
def fill_long_list(
    values: NDArray[np.uint32],
    source: int,
    length: int,
    num_values: int,
    lists: NDArray[np.uint32],
    start: int,
) -> None:
    """Write a long list; all numbers are int64.

    :param values: the ``length`` values from index ``source`` on are the list's, sorted
    :param num_values: they are below it
    :param lists: written from index ``start`` on, zeros before
    """
    shift = _shift_of(num_values, length)
    num_words = ((((num_values - 1) >> shift) + 1) + 31) >> 5
    lists[start] = shift
    lists[start + 1] = num_words
    bitmap = start + HEADER
    counts = bitmap + num_words
    num_counts = (num_words + 1) >> 1
    first = counts + num_counts + 1
    for j in range(length):
        value = np.int64(values[source + j])
        bit = value >> shift
        word = bit >> 5
        lists[bitmap + word] |= np.uint32(1) << np.uint32(bit & 31)
        lists[bitmap + word] |= np.uint32(1) << np.uint32(value & 31)
        lists[counts + (word >> 1) + 1] += np.uint32(1)
        lists[first + j] = value
    _fill_stand_ins(lists, first, length, num_values - length)
    for i in range(num_counts):
        lists[counts + i + 1] += lists[counts + i]
