"""The directory of pairs: from a pair of ids to its list of known values.

A pair is one number, its *key*: the bits of its first id, then those of its second. A permutation
of all keys of that many bits scatters them. The high bits of a scattered key choose its bucket, so
the bucket stores only the low ones, the *remainder* (Cleary: "Compact hash tables using
bidirectional linear probing", IEEE Transactions on Computers C-33(9), 1984). The answer is exact
nevertheless: bucket and remainder are the key.

The words of a bucket are the headers of its pairs, then their lists in the same order:

* a short list is its values
* a long one is its length, and where it begins (:mod:`.known_lists`), in units of 8 words

A header is ``remainder << 7 | is_long << 6 | is_last << 5 | words``: whether the list is long,
whether no header follows in the bucket, and the words of the list in the bucket. It is one word if
the remainder has at most 25 bits, else two. The words of bucket i of a line of the directory end
where those of bucket i + 1 begin. A line is a cache line for 28 buckets: the index of its first
word (48 bits), and for each bucket, and the end of the last, how many words later it begins (16
bits).

Processors can't predict how many pairs a bucket has, nor which one is looked up. So the first four
headers are compared without a branch; a bucket rarely has more.

Inlined functions take arrays by address, see :mod:`negserve_server.jit.addresses`.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import load_uint16, load_uint32, load_uint64, prefetch
from negserve_server.jit.constants import (
    LOW_48,
    MAX_64,
    MIX,
    U0,
    U1,
    U2,
    U3,
    U4,
    U5,
    U7,
    U8,
    U31,
    U32,
)

#: Buckets of a line of the directory.
LINE_BUCKETS: Final = 28

#: Start of the list of a pair without values. No list begins there: a header does.
NO_START: Final = np.uint64(0)

#: A long list begins at a multiple of this many words.
UNIT_WORDS: Final = 8

#: Bits of a header below the remainder.
FLAG_BITS: Final = 7

#: Bits of a bucket's last header, and of the header of a long list.
LAST_HEADER: Final = np.uint64(32)
LONG_LIST: Final = np.uint64(64)

#: Words in a bucket of a long list.
LONG_WORDS: Final = 2

#: Most pairs of a bucket.
MAX_PAIRS: Final = 64

#: Most bits of a remainder with a header of one word, and with one of two.
ONE_WORD_BITS: Final = 32 - FLAG_BITS
TWO_WORD_BITS: Final = 64 - FLAG_BITS

_BUCKETS = np.uint64(LINE_BUCKETS)
_LINE_SHORTS = np.uint64(32)
_LOW_8 = np.uint64(255)
_U16 = np.uint64(16)
_U24 = np.uint64(24)
_U57 = np.uint64(57)
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
def num_buckets_of(layout: int) -> int:
    """Count the buckets, a power of two."""
    return U1 << (((layout >> U8) & _LOW_8) - remainder_bits_of(layout))


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
    return _bucket_words(directory, key >> remainder_bits_of(layout))


@nb.njit(inline="always")
def _bucket_words(directory: int, bucket: int) -> tuple[int, int]:
    """Words of a bucket: the first one, and the one after the last."""
    line = bucket // _BUCKETS
    base = load_uint64(directory, line << U3) & LOW_48
    at = line * _LINE_SHORTS + U3 + (bucket - line * _BUCKETS)
    return base + np.uint64(load_uint16(directory, at)), base + np.uint64(
        load_uint16(directory, at + U1)
    )


@nb.njit(inline="always")
def load_header(lists: int, layout: int, at: int) -> int:
    """Load the header at an index, of one word or two, as uint64."""
    header = np.uint64(load_uint32(lists, at))
    if header_words_of(layout) != U1:
        header |= np.uint64(load_uint32(lists, at + U1)) << U32
    return header


@nb.njit(inline="always")
def is_last_header(header: int) -> int:
    """1 for the last header of a bucket, else 0."""
    return (header >> U5) & U1


@nb.njit(inline="always")
def locate_list(lists: int, header: int, at: int) -> tuple[int, int]:
    """Where the list of a header begins, and its length; 0 and 0 for header 0.

    :param at: index of the list's words in the bucket
    """
    # An arithmetic shift, not a condition: that would become a branch, which can't be predicted.
    is_long = np.uint64(np.int64(header << _U57) >> np.int64(63))
    num_values, unit = load_uint32(lists, at), load_uint32(lists, at + U1)
    num_words = header & U31
    start = (is_long & (np.uint64(unit) << U3)) | (~is_long & at)
    return (U0 - np.uint64(num_words != U0)) & start, (is_long & np.uint64(num_values)) | (
        ~is_long & num_words
    )


@nb.njit
def _search_bucket(lists: int, layout: int, remainder: int, begin: int) -> tuple[int, int]:
    """Find a remainder among any number of headers; the bucket is not empty.

    :return: the header, 0 if there is none, and the index of its list's words
    """
    header_words = header_words_of(layout)
    at, before, found = begin, U0, U0
    while True:
        header = load_header(lists, layout, at)
        at += header_words
        if header >> U7 == remainder:
            found = header
        elif found == U0:
            before += header & U31
        if is_last_header(header) != U0:
            return found, at + before


@nb.njit(inline="always")
def find_in_bucket(lists: int, layout: int, key: int, begin: int, end: int) -> tuple[int, int]:
    """Find the list of a scattered key among the words of its bucket.

    :return: ``(start, length)``, or ``(NO_START, 0)`` if there is none
    """
    remainder = key & ((U1 << remainder_bits_of(layout)) - U1)
    header_0 = np.uint64(load_uint32(lists, begin))
    header_1 = np.uint64(load_uint32(lists, begin + U1))
    header_2 = np.uint64(load_uint32(lists, begin + U2))
    header_3 = np.uint64(load_uint32(lists, begin + U3))
    # Whether there is a header 0, 1 and so on; those after the last one are words of lists.
    is_0 = np.uint64(begin < end)
    is_1 = is_0 & ~is_last_header(header_0)
    is_2 = is_1 & ~is_last_header(header_1)
    is_3 = is_2 & ~is_last_header(header_2)
    is_4 = is_3 & ~is_last_header(header_3)
    # All ones for the header of the key, else 0.
    match_0 = U0 - (is_0 & np.uint64(header_0 >> U7 == remainder))
    match_1 = U0 - (is_1 & np.uint64(header_1 >> U7 == remainder))
    match_2 = U0 - (is_2 & np.uint64(header_2 >> U7 == remainder))
    match_3 = U0 - (is_3 & np.uint64(header_3 >> U7 == remainder))
    found = match_0 & header_0 | match_1 & header_1 | match_2 & header_2 | match_3 & header_3
    at = begin + is_0 + is_1 + is_2 + is_3
    at += (
        ((match_1 | match_2 | match_3) & header_0 & U31)
        + ((match_2 | match_3) & header_1 & U31)
        + (match_3 & header_2 & U31)
    )
    if is_4 != U0 or header_words_of(layout) != U1:
        found, at = U0, begin
        if begin < end:
            found, at = _search_bucket(lists, layout, remainder, begin)
    return locate_list(lists, found, at)


@nb.njit(inline="always")
def find_pair(
    directory: int, lists: int, layout: int, multiplier: int, first: int, second: int
) -> tuple[int, int]:
    """Find the list of a pair: ``(start, length)``, or ``(NO_START, 0)`` if there is none."""
    key = scattered_key(layout, multiplier, first, second)
    begin, end = find_bucket(directory, layout, key)
    return find_in_bucket(lists, layout, key, begin, end)


@nb.njit
def find_lists(
    directory: int,
    lists: int,
    layout: int,
    bucket: int,
    starts: NDArray[np.uint64],
    lengths: NDArray[np.uint64],
) -> int:
    """Find all lists of a bucket; count them.

    :param starts: shape (64,), written: where each begins
    :param lengths: shape (64,), written
    """
    begin, end = _bucket_words(directory, bucket)
    num_lists = 0
    if begin == end:
        return num_lists
    at = begin
    while True:
        header = load_header(lists, layout, at)
        at += header_words_of(layout)
        lengths[num_lists] = header
        num_lists += 1
        if is_last_header(header) != U0:
            break
    for i in range(num_lists):
        header = lengths[i]
        starts[i], lengths[i] = locate_list(lists, header, at)
        at += header & U31
    return num_lists
