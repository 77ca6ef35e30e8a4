"""The words of an index of pairs: kernels that measure and write buckets, lists and directory.

:mod:`.pair_directory` and :mod:`.known_lists` say what is written.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import SHORT_LIST, fill_long_list, num_long_words
from negserve_server.index.pair_directory import (
    FLAG_BITS,
    LAST_HEADER,
    LINE_BUCKETS,
    LONG_LIST,
    LONG_WORDS,
    UNIT_WORDS,
    gathered_key,
    header_words_of,
    remainder_bits_of,
    second_bits_of,
)
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U0, U1, U32

_FLAG_BITS = np.uint64(FLAG_BITS)


@nb.njit
def _limit(
    layout: int,
    multiplier: int,
    key: int,
    num_values: NDArray[np.int64],
    relation_column: int,
) -> int:
    """Upper bound of the values of a scattered key."""
    if len(num_values) == 1:
        return num_values[0]
    pair = gathered_key(layout, multiplier, key)
    if relation_column == 0:
        return num_values[np.int64(pair >> second_bits_of(layout))]
    return num_values[np.int64(pair & ((U1 << second_bits_of(layout)) - U1))]


@compiled
def measure_buckets(
    keys: NDArray[np.uint64],
    low: int,
    sizes: NDArray[np.int64],
    layout: int,
    multiplier: int,
    num_values: NDArray[np.int64],
    relation_column: int,
) -> tuple[int, int, int]:
    """Measure the buckets of a part.

    :param keys: scattered keys of the triples, sorted
    :param low: the first bucket
    :param sizes: words of each bucket, written, zeros before
    :return: number of pairs, most pairs of a bucket, and words of the long lists
    """
    remainder_bits = remainder_bits_of(layout)
    header_words = np.int64(header_words_of(layout))
    num_pairs, most, in_bucket, num_long = 0, 0, 0, 0
    last_bucket = np.int64(-1)
    i = 0
    while i < len(keys):
        key = keys[i]
        end = i + 1
        while end < len(keys) and keys[end] == key:
            end += 1
        length = end - i
        bucket = np.int64(key >> remainder_bits) - low
        in_bucket = in_bucket + 1 if bucket == last_bucket else 1
        last_bucket = bucket
        most = max(most, in_bucket)
        num_pairs += 1
        if length <= SHORT_LIST:
            sizes[bucket] += header_words + length
        else:
            sizes[bucket] += header_words + LONG_WORDS
            limit = _limit(layout, multiplier, key, num_values, relation_column)
            words = num_long_words(length, limit)
            num_long += (words + UNIT_WORDS - 1) // UNIT_WORDS * UNIT_WORDS
        i = end
    return num_pairs, most, num_long


@compiled
def fill_directory(
    sizes: NDArray[np.int64], first_word: int, directory: NDArray[np.uint64]
) -> None:
    """Write lines of the directory.

    :param sizes: words of each bucket, for all buckets of the lines
    :param first_word: index of the first word of these buckets
    :param directory: written, shape (lines, 8)
    """
    at = first_word
    for line in range(directory.shape[0]):
        # Four 16-bit numbers a word: three are the base, then come 29 offsets, the first one 0.
        directory[line, 0] = np.uint64(at)
        offset = 0
        for i in range(LINE_BUCKETS):
            offset += sizes[line * LINE_BUCKETS + i]
            place = 4 + i
            directory[line, place >> 2] |= np.uint64(offset) << np.uint64(16 * (place & 3))
        at += offset


@compiled
def fill_buckets(
    keys: NDArray[np.uint64],
    values: NDArray[np.uint32],
    first_word: int,
    num_short: int,
    words: NDArray[np.uint32],
    layout: int,
    multiplier: int,
    num_values: NDArray[np.int64],
    relation_column: int,
) -> None:
    """Write the words of a part: its buckets, then its long lists.

    :param keys: as for :func:`measure_buckets`
    :param values: of the keys, sorted for each
    :param first_word: index of ``words[0]`` among all words
    :param num_short: words of all buckets, rounded up to a whole unit
    :param words: written, zeros before
    """
    remainder_bits = remainder_bits_of(layout)
    remainder_mask = (U1 << remainder_bits) - U1
    header_words = np.int64(header_words_of(layout))
    at, long_at = 0, num_short
    i = 0
    while i < len(keys):
        bucket = keys[i] >> remainder_bits
        end, num_pairs = i + 1, 1
        while end < len(keys) and keys[end] >> remainder_bits == bucket:
            num_pairs += np.int64(keys[end] != keys[end - 1])
            end += 1
        list_at = at + header_words * num_pairs
        while i < end:
            key, first = keys[i], i
            while i < end and keys[i] == key:
                i += 1
            length = i - first
            is_short = length <= SHORT_LIST
            header = (key & remainder_mask) << _FLAG_BITS
            header |= np.uint64(length) if is_short else LONG_LIST | np.uint64(LONG_WORDS)
            header |= LAST_HEADER if i == end else U0
            words[at] = np.uint32(header)
            if header_words != 1:
                words[at + 1] = np.uint32(header >> U32)
            at += header_words
            if is_short:
                for j in range(first, i):
                    words[list_at] = values[j]
                    list_at += 1
                continue
            words[list_at] = np.uint32(length)
            words[list_at + 1] = np.uint32((first_word + long_at) // UNIT_WORDS)
            list_at += LONG_WORDS
            limit = _limit(layout, multiplier, key, num_values, relation_column)
            fill_long_list(values, first, length, limit, words, long_at)
            long_at += (num_long_words(length, limit) + UNIT_WORDS - 1) // UNIT_WORDS * UNIT_WORDS
        at = list_at
