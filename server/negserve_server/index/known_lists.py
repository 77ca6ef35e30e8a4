"""How the sorted known values of pairs lie in memory: lists, long ones behind a bitmap.

A short list is its values, and the last one again up to a multiple of four, so that a draw is
compared with four at a time. A long list is

    shift, num_words, bitmap[0], ..., bitmap[num_words - 1], counts[0], ..., counts[num_words],
    values[0], ..., values[length - 1], stand_ins[0], ..., stand_ins[length - 1]

(uint32). Bit ``v >> shift`` of the bitmap is set for each value v, about one bit in 32 or fewer,
and in the same word the bit ``v & 31``: a draw of which one of the two is not set is not known,
after one look. (One bit alone lets through some 3 to 6 of 100 draws that are not known, both let
through about one.) Where a range of values takes no more than 32 bits a value, the shift is 0, the
two are one, and the bitmap is exact. ``counts[w]`` values have their bits in words before w, so a
value that may be known is looked for among the one or two of its word. Of n values, M are not in
the list. The i-th value below M that is in it has the i-th value from M on that is not as its
stand-in; values from M on have none, and 0 there.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import load_uint32, store_uint64
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U0, U1, U2, U3, U4, U5, U31

#: Longest list without a bitmap.
SHORT_LIST = 16

#: Most bits of a bitmap per value.
_BITS_PER_VALUE = 32

#: Words of a long list before its bitmap.
HEADER = 2

#: A long list begins with a cache line: this many words.
_LINE = 16

_SHORT = np.uint64(SHORT_LIST)
_HEADER = np.uint64(HEADER)


@nb.njit(inline="always")
def first_value(lists: int, start: int, length: int) -> int:
    """Index of the first value of a list.

    :param lists: address of the lists
    :param start: where the list begins
    :param length: how many values it has
    """
    if length <= _SHORT:
        return start
    return start + _HEADER + U2 * np.uint64(load_uint32(lists, start + U1)) + U1


@nb.njit(inline="always")
def lower_bound(values: int, start: int, length: int, value: int) -> int:
    """How many of the ``length`` sorted values from ``start`` on are below ``value``.

    :param values: address of a uint32 array
    """
    if length == U0:
        return U0
    # Without branches that depend on the data: a wrong guess costs more than a step.
    low = start
    size = length
    while size > U1:
        half = size >> U1
        low += half if load_uint32(values, low + half - U1) < value else U0
        size -= half
    return low - start + np.uint64(load_uint32(values, low) < value)


@nb.njit(inline="always")
def count_below(lists: int, start: int, length: int, value: int) -> int:
    """How many values of a list are below a value, which may be beyond all that can be known."""
    if length <= _SHORT:
        return lower_bound(lists, start, length, value)
    word = value >> (np.uint64(load_uint32(lists, start)) + U5)
    num_words = np.uint64(load_uint32(lists, start + U1))
    if word >= num_words:
        return length
    counts = start + _HEADER + num_words
    before = np.uint64(load_uint32(lists, counts + word))
    here = np.uint64(load_uint32(lists, counts + word + U1)) - before
    return before + lower_bound(lists, counts + num_words + U1 + before, here, value)


@nb.njit(inline="always")
def is_at(lists: int, start: int, length: int, rank: int, value: int) -> bool:
    """Whether the value of a rank, which may be ``length``, is that value."""
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
    """Write the indices of the draws that the list may hold, plus a tag; give their number.

    Exact for a short list; for a long one, a draw among the hits need not be in the list.

    :param draws: address of uint32 values, those from ``begin`` to ``end`` - 1 are looked up
    :param hits: address of uint64 with place for ``end - begin + 1``
    :param tag: uint64
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
    for at in range(start, start + length, U4):
        value_0 = load_uint32(lists, at)
        value_1 = load_uint32(lists, at + U1)
        value_2 = load_uint32(lists, at + U2)
        value_3 = load_uint32(lists, at + U3)
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
    """Give the stand-in of a draw that is in a long list, and another draw itself.

    :param draw: one of :func:`find_hits`, below the number of values that are not in the list
    """
    index = count_below(lists, start, length, draw)
    at = first_value(lists, start, length) + index
    # Both are loaded, whichever it will be: nobody can guess. Behind the last stand-in is room.
    value, other = load_uint32(lists, at), np.uint64(load_uint32(lists, at + length))
    return other if (index < length) & (np.uint64(value) == draw) else draw


@nb.njit(inline="always")
def _shift_of(num_values: int, length: int) -> int:
    shift = 0
    while ((num_values - 1) >> shift) + 1 > _BITS_PER_VALUE * length:
        shift += 1
    return shift


@compiled
def place_lists(
    lengths: NDArray[np.int64], num_values: NDArray[np.int64], starts: NDArray[np.int64]
) -> int:
    """Say where each list begins, in words, and how many words all take.

    :param lengths: values per list
    :param num_values: values of list i are below ``num_values[i]``
    :param starts: written
    """
    at = np.int64(0)
    for i in range(len(lengths)):
        length = lengths[i]
        if length <= SHORT_LIST:
            starts[i] = at
            at += (length + 3) & ~3
        else:
            at = (at + _LINE - 1) & ~(_LINE - 1)
            starts[i] = at
            num_bits = ((num_values[i] - 1) >> _shift_of(num_values[i], length)) + 1
            at += HEADER + 2 * ((num_bits + 31) >> 5) + 1 + 2 * length
    return at


@nb.njit
def _fill_stand_ins(lists: NDArray[np.uint32], first: int, length: int, num_others: int) -> None:
    """Write the stand-ins of the values that begin at ``first``."""
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


@compiled
def fill_lists(
    values: NDArray[np.int64],
    lengths: NDArray[np.int64],
    num_values: NDArray[np.int64],
    starts: NDArray[np.int64],
    lists: NDArray[np.uint32],
) -> None:
    """Write all lists.

    :param values: the values of all lists, each sorted, one list behind the other
    :param lengths: values per list
    :param num_values: as for :func:`place_lists`, which made ``starts``
    :param lists: written, zeros before
    """
    source = 0
    for i in range(len(lengths)):
        length, start = lengths[i], starts[i]
        if length <= SHORT_LIST:
            for j in range((length + 3) & ~3):
                lists[start + j] = values[source + min(j, length - 1)]
        else:
            shift = _shift_of(num_values[i], length)
            num_words = ((((num_values[i] - 1) >> shift) + 1) + 31) >> 5
            lists[start] = shift
            lists[start + 1] = num_words
            bitmap = start + HEADER
            counts = bitmap + num_words
            first = counts + num_words + 1
            for j in range(length):
                value = values[source + j]
                bit = value >> shift
                word = bit >> 5
                lists[bitmap + word] |= np.uint32(1) << np.uint32(bit & 31)
                lists[bitmap + word] |= np.uint32(1) << np.uint32(value & 31)
                lists[counts + word + 1] += np.uint32(1)
                lists[first + j] = value
            _fill_stand_ins(lists, first, length, num_values[i] - length)
            for word in range(num_words):
                lists[counts + word + 1] += lists[counts + word]
        source += length
