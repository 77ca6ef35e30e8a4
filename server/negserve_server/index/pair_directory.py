"""The directory of pairs: from a pair of ids to its list of known values.

A pair is one number, its *key*: the bits of its first id, then those of its second. A permutation
of all keys of that many bits scatters them. The high bits of a scattered key choose its bucket, so
the bucket stores only the low ones, the *remainder* (Cleary: "Compact hash tables using
bidirectional linear probing", IEEE Transactions on Computers C-33(9), 1984). The answer is exact
nevertheless: bucket and remainder are the key.

The words of a bucket are its pairs, one after the other: a header, and

* the values of a short list, or
* for a long one (:mod:`.known_lists`), its length and where it begins, in units of 8 words.

A header is ``remainder << 5 | length``, with length 0 for a long list, in one word if the remainder
has at most 27 bits, else in two. The words of bucket i of a line of the directory end where those of
bucket i + 1 begin. A line is a cache line for 28 buckets: the index of its first word (48 bits), and
for each bucket, and the end of the last, how many words later it begins (16 bits).

Inlined functions take arrays by address, see :mod:`negserve_server.jit.addresses`.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import first_value, holds
from negserve_server.jit.addresses import load_uint16, load_uint32, load_uint64, prefetch
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import LOW_48, MAX_64, MIX, U0, U1, U2, U3, U4, U5, U8, U31

#: Buckets of a line of the directory.
LINE_BUCKETS: Final = 28

#: Start of the list of a pair without values. No list begins there: a header does.
NO_START: Final = np.uint64(0)

#: A long list begins at a multiple of this many words.
UNIT_WORDS: Final = 8

#: Bits of a header that are the length of a short list.
LENGTH_BITS: Final = 5

#: Most bits of a remainder with a header of one word, and with one of two.
ONE_WORD_BITS: Final = 32 - LENGTH_BITS
TWO_WORD_BITS: Final = 64 - LENGTH_BITS

_BUCKETS = np.uint64(LINE_BUCKETS)
_LINE_SHORTS = np.uint64(32)
_LOW_8 = np.uint64(255)
_U16 = np.uint64(16)
_U24 = np.uint64(24)
_U27 = np.uint64(ONE_WORD_BITS)
_U64 = np.uint64(64)


def pack_layout(second_bits: int, key_bits: int, remainder_bits: int) -> int:
    """Pack the sizes of a directory into one number.

    :param second_bits: bits of the second id
    :param key_bits: bits of both ids, 1 to 64
    :param remainder_bits: bits of a key that are not the bucket's
    """
    num_words = 1 if remainder_bits <= ONE_WORD_BITS else 2
    return second_bits | key_bits << 8 | remainder_bits << 16 | num_words << 24


@nb.njit(inline="always")
def remainder_bits_of(layout: int) -> int:
    """Bits of a key that are not the bucket's."""
    return (layout >> _U16) & _LOW_8


@nb.njit(inline="always")
def second_bits_of(layout: int) -> int:
    """Bits of the second id of a key."""
    return layout & _LOW_8


@nb.njit(inline="always")
def header_words_of(layout: int) -> int:
    """Words of a header, 1 or 2."""
    return layout >> _U24


@nb.njit(inline="always")
def scattered_key(layout: int, multiplier: int, first: int, second: int) -> int:
    """Scattered key of a pair whose ids are inside the id spaces.

    :param layout: see :func:`pack_layout`
    :param multiplier: odd
    """
    key_bits = (layout >> U8) & _LOW_8
    mask = MAX_64 >> (_U64 - key_bits)
    key = (np.uint64(first) << (layout & _LOW_8)) | np.uint64(second)
    key = (key * multiplier) & mask
    key ^= key >> ((key_bits + U1) >> U1)
    return (key * MIX) & mask


@nb.njit
def _inverse(factor: int) -> int:
    """Inverse of an odd number modulo 2^64, by Newton's iteration."""
    result = factor  # right in its lowest 3 bits; each step doubles them
    for _ in range(5):
        result *= U2 - factor * result
    return result


@nb.njit
def gathered_key(layout: int, multiplier: int, key: int) -> int:
    """Key of a pair, from the scattered one: the inverse of :func:`scattered_key`."""
    key_bits = (layout >> U8) & _LOW_8
    mask = MAX_64 >> (_U64 - key_bits)
    key = (key * _inverse(MIX)) & mask
    key ^= key >> ((key_bits + U1) >> U1)
    return (key * _inverse(multiplier)) & mask


@nb.njit(inline="always")
def prefetch_bucket_line(directory: int, layout: int, key: int) -> None:
    """Prefetch the line of the directory that :func:`find_bucket` will read."""
    bucket = key >> remainder_bits_of(layout)
    prefetch(directory, (bucket // _BUCKETS) << U4)


@nb.njit(inline="always")
def find_bucket(directory: int, layout: int, key: int) -> tuple[int, int]:
    """Find the words of a scattered key's bucket: the first one, and the one after the last."""
    bucket = key >> remainder_bits_of(layout)
    line = bucket // _BUCKETS
    base = load_uint64(directory, line << U3) & LOW_48
    at = line * _LINE_SHORTS + U3 + (bucket - line * _BUCKETS)
    return base + np.uint64(load_uint16(directory, at)), base + np.uint64(
        load_uint16(directory, at + U1)
    )


@nb.njit(inline="always")
def find_in_bucket(lists: int, layout: int, key: int, begin: int, end: int) -> tuple[int, int]:
    """Find the list of a scattered key among the words of its bucket.

    :return: ``(start, length)``, or ``(NO_START, 0)`` if there is none
    """
    remainder_bits = remainder_bits_of(layout)
    remainder = key & ((U1 << remainder_bits) - U1)
    at = begin
    if header_words_of(layout) == U1:
        wanted = np.uint32(remainder)
        while at < end:
            header = np.uint32(load_uint32(lists, at))
            length = np.uint64(header) & U31
            at += U1
            if header >> np.uint32(5) == wanted:
                break
            at += U2 if length == U0 else length
        else:
            return NO_START, U0
    else:
        while at < end:
            low, high = load_uint32(lists, at), load_uint32(lists, at + U1)
            length = np.uint64(low) & U31
            at += U2
            if ((np.uint64(high) << _U27) | (np.uint64(low) >> U5)) == remainder:
                break
            at += U2 if length == U0 else length
        else:
            return NO_START, U0
    if length != U0:
        return at, length
    return np.uint64(load_uint32(lists, at + U1)) << U3, np.uint64(load_uint32(lists, at))


@nb.njit(inline="always")
def find_pair(
    directory: int, lists: int, layout: int, multiplier: int, first: int, second: int
) -> tuple[int, int]:
    """Find the list of a pair: ``(start, length)``, or ``(NO_START, 0)`` if there is none."""
    key = scattered_key(layout, multiplier, first, second)
    begin, end = find_bucket(directory, layout, key)
    return find_in_bucket(lists, layout, key, begin, end)


@nb.njit
def line_words(directory: int, line: int) -> tuple[int, int]:
    """Words of the buckets of a line: the first one, and the one after the last."""
    base = load_uint64(directory, line << U3) & LOW_48
    return base, base + np.uint64(load_uint16(directory, line * _LINE_SHORTS + U31))


@nb.njit
def next_list(lists: int, layout: int, at: int) -> tuple[int, int, int]:
    """List of the pair whose header is at an index: start, length and index of the next header."""
    length = np.uint64(load_uint32(lists, at)) & U31
    at += header_words_of(layout)
    if length != U0:
        return at, length, at + length
    start = np.uint64(load_uint32(lists, at + U1)) << U3
    return start, np.uint64(load_uint32(lists, at)), at + U2


@compiled
def contains_values(
    directory: int,
    lists: int,
    layout: int,
    multiplier: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    value: NDArray[np.int64],
    out: NDArray[np.bool_],
) -> None:
    """Write whether each (pair, value) is known; all of shape (n,)."""
    for i in range(first.shape[0]):
        start, length = find_pair(directory, lists, layout, multiplier, first[i], second[i])
        out[i] = holds(lists, start, length, np.uint64(value[i]))


@compiled
def count_values(
    directory: int,
    lists: int,
    layout: int,
    multiplier: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Write the number of values of each pair; all of shape (n,)."""
    for i in range(first.shape[0]):
        _, length = find_pair(directory, lists, layout, multiplier, first[i], second[i])
        out[i] = np.int64(length)


@compiled
def find_one(
    directory: int, lists: int, layout: int, multiplier: int, first: int, second: int
) -> tuple[int, int]:
    """Find the index of the first value of a pair, and the number of values; for Python callers."""
    start, length = find_pair(directory, lists, layout, multiplier, first, second)
    return first_value(lists, start, length), length
