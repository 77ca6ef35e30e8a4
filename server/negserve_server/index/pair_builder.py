"""The building of an index of pairs: sorts triples by bucket, and writes bucket after bucket.

The buckets are divided into parts of some million triples, each of whole lines of the directory. So
besides the triples and the index, memory holds one part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from negserve.types.triples import are_first
from negserve_server.index.pair_directory import (
    LINE_BUCKETS,
    MAX_PAIRS,
    TWO_WORD_BITS,
    UNIT_WORDS,
    pack_layout,
    scattered_key,
)
from negserve_server.index.pair_words import fill_buckets, fill_directory, measure_buckets
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import FIBONACCI, MIX

#: Average pairs of a bucket, at most; and more than half as many.
_PAIRS_PER_BUCKET: Final = 1.5

#: Average triples of a part.
PART_TRIPLES: Final = 2**24

#: Triples that are converted at a time.
_BLOCK: Final = 2**20

#: Words from which parts begin: a cache line.
_ALIGNMENT: Final = 16

#: Words of an index: a long list begins at a 32-bit number of units.
MAX_WORDS: Final = UNIT_WORDS * 2**32

#: Ways to scatter the keys of a graph that are tried.
_MAX_TRIES: Final = 64


class WordSink(Protocol):
    """Takes the words of the lists."""

    def append(self, words: NDArray[np.uint32]) -> None:
        """Take the words that follow; they are not written afterwards."""

    def clear(self) -> None:
        """Forget all words: they come anew."""


@dataclass(frozen=True)
class Pairs:
    """Triples, as the two ids that stay and the value that is known.

    :ivar first: first ids, any integer dtype, shape (n,)
    :ivar second: second ids, likewise
    :ivar values: known values, likewise; a triple may be there repeatedly
    :ivar num_first: size of the id space of the first ids
    :ivar num_second: size of the id space of the second ids
    :ivar num_values: values are below it, int64, shape (1,); or for each relation, shape
        (num_relations,)
    :ivar relation_column: which id is the relation in the latter case: 0 the first, 1 the second
    """

    first: NDArray[np.integer]
    second: NDArray[np.integer]
    values: NDArray[np.integer]
    num_first: int
    num_second: int
    num_values: NDArray[np.int64]
    relation_column: int = 0

    def keys(self, layout: int, multiplier: int) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
        """Scatter the keys of the triples, a bounded number at a time."""
        for at in range(0, len(self.first), _BLOCK):
            rows = slice(at, at + _BLOCK)
            first, second = (
                np.ascontiguousarray(column[rows], dtype=np.uint64)
                for column in (self.first, self.second)
            )
            _scatter(first, second, np.uint64(layout), np.uint64(multiplier))
            yield rows, first


@dataclass(frozen=True)
class BuiltPairs:
    """What there is of an index besides the words; see :mod:`.pair_directory`.

    :ivar directory: uint64, shape (lines, 8)
    :ivar layout: sizes of the directory
    :ivar multiplier: of the scattered keys
    :ivar num_pairs: number of pairs that have values
    :ivar num_values: number of their values
    """

    directory: NDArray[np.uint64]
    layout: int
    multiplier: int
    num_pairs: int
    num_values: int


class _CrowdedBucketError(Exception):
    """More than ``MAX_PAIRS`` pairs share a bucket.

    That is all but impossible, unless somebody looked for such ids; then the keys are scattered
    otherwise.
    """


def build_pairs(
    pairs: Pairs, sink: WordSink, *, first_word: int = 0, part_triples: int = PART_TRIPLES
) -> BuiltPairs:
    """Build an index.

    :param sink: takes the words of the lists
    :param first_word: index of the first word, a multiple of 16
    :param part_triples: average triples of a part
    :raises ValueError: if the index would have more than 2^35 words
    """
    second_bits = _num_bits(pairs.num_second)
    key_bits = max(_num_bits(pairs.num_first) + second_bits, 1)
    bucket_bits = max(_num_bits(math.ceil(_estimate_pairs(pairs) / _PAIRS_PER_BUCKET)), 5)
    bucket_bits = min(max(bucket_bits, key_bits - TWO_WORD_BITS), key_bits)
    layout = pack_layout(second_bits, key_bits, key_bits - bucket_bits)
    for attempt in range(_MAX_TRIES):
        multiplier = ((int(FIBONACCI) * (2 * attempt + 1)) ^ (attempt << 32)) % 2**64 | 1
        try:
            return _build(pairs, layout, multiplier, sink, first_word, part_triples)
        except _CrowdedBucketError:
            sink.clear()
    raise ValueError(
        f"more than {MAX_PAIRS} pairs share a bucket in each of {_MAX_TRIES} ways to scatter them"
    )


def _num_bits(num_ids: int) -> int:
    return max(num_ids - 1, 0).bit_length()


def _build(
    pairs: Pairs, layout: int, multiplier: int, sink: WordSink, first_word: int, part_triples: int
) -> BuiltPairs:
    remainder_bits = (layout >> 16) & 255
    num_buckets = 1 << (((layout >> 8) & 255) - remainder_bits)
    num_lines = -(-num_buckets // LINE_BUCKETS)
    num_parts = min(-(-len(pairs.first) // part_triples), num_lines) or 1
    directory = np.zeros((num_lines, 8), dtype=np.uint64)
    num_pairs = num_values = 0
    end = first_word
    # A copy, since other strides and flags are another type to numba.
    arguments = (np.uint64(layout), np.uint64(multiplier), np.array(pairs.num_values))
    for part in range(num_parts):
        lines = slice(num_lines * part // num_parts, num_lines * (part + 1) // num_parts)
        low = lines.start * LINE_BUCKETS
        high = min(lines.stop * LINE_BUCKETS, num_buckets)
        keys, values = _sorted_part(pairs, layout, multiplier, low, high)
        sizes = np.zeros((lines.stop - lines.start) * LINE_BUCKETS, dtype=np.int64)
        part_pairs, most, num_long = measure_buckets(
            keys, low, sizes, *arguments, pairs.relation_column
        )
        if most > MAX_PAIRS:
            raise _CrowdedBucketError
        num_short = -(-int(sizes.sum()) // UNIT_WORDS) * UNIT_WORDS
        # Look-ups load up to four words after those that they need.
        num_words = -(-(num_short + num_long + 4) // _ALIGNMENT) * _ALIGNMENT
        if end + num_words > MAX_WORDS:
            raise ValueError(f"known values take more than {MAX_WORDS} words: divide the graph")
        fill_directory(sizes, end, directory[lines])
        words = np.zeros(num_words, dtype=np.uint32)
        fill_buckets(keys, values, end, num_short, words, *arguments, pairs.relation_column)
        sink.append(words)
        end += num_words
        num_pairs += int(part_pairs)
        num_values += len(values)
    return BuiltPairs(directory, layout, multiplier, num_pairs, num_values)


def _estimate_pairs(pairs: Pairs) -> int:
    """Estimate the number of pairs, within some percent, as a function of the triples alone.

    Linear counting: Whang et al., "A linear-time probabilistic counting algorithm for database
    applications", ACM Transactions on Database Systems 15(2), 1990.
    """
    bits = max((len(pairs.first) - 1).bit_length(), 10)
    seen = np.zeros(2**bits // 8, dtype=np.uint8)
    layout, multiplier = pack_layout(32, 64, 64 - bits), int(MIX)
    for _, keys in pairs.keys(layout, multiplier):
        _mark(keys, np.uint64(64 - bits), seen)
    num_clear = 2**bits - int(np.bitwise_count(seen).sum(dtype=np.int64))
    estimate: int = round(2**bits * math.log(2**bits / max(num_clear, 1)))
    return estimate


def _sorted_part(
    pairs: Pairs, layout: int, multiplier: int, low: int, high: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Sort the distinct triples of the buckets from ``low`` to ``high`` - 1.

    :return: scattered keys, and values, by key, then value
    """
    remainder_bits = (layout >> 16) & 255
    is_whole = low == 0 and high == 1 << (((layout >> 8) & 255) - remainder_bits)
    key_pieces, value_pieces = [], []
    for rows, scattered in pairs.keys(layout, multiplier):
        is_chosen: slice | NDArray[np.bool_] = slice(None)
        if not is_whole:
            buckets = scattered >> np.uint64(remainder_bits)
            is_chosen = (buckets >= np.uint64(low)) & (buckets < np.uint64(high))
        key_pieces.append(scattered[is_chosen])
        value_pieces.append(pairs.values[rows][is_chosen].astype(np.uint32))
    keys = np.concatenate(key_pieces) if key_pieces else np.empty(0, dtype=np.uint64)
    values = np.concatenate(value_pieces) if value_pieces else np.empty(0, dtype=np.uint32)
    del key_pieces, value_pieces
    if len(keys) == 0:
        return keys, values
    lowest = low << remainder_bits
    value_bits = max(int(values.max()).bit_length(), 1)
    if ((high << remainder_bits) - 1 - lowest).bit_length() + value_bits <= 64:
        # One sort of packed numbers is many times faster than sorting by two columns.
        shift = np.uint64(value_bits)
        keys -= np.uint64(lowest)
        keys <<= shift
        keys |= values
        keys.sort()
        keep = are_first(keys)
        if not keep.all():
            keys = keys[keep]
        values = (keys & np.uint64((1 << value_bits) - 1)).astype(np.uint32)
        keys >>= shift
        keys += np.uint64(lowest)
        return keys, values
    order = np.lexsort((values, keys))
    keys, values = keys[order], values[order]
    keep = are_first(keys) | are_first(values)
    return keys[keep], values[keep]


@compiled
def _scatter(
    first: NDArray[np.uint64], second: NDArray[np.uint64], layout: int, multiplier: int
) -> None:
    """Replace first ids by the scattered keys of the pairs."""
    for i in range(len(first)):
        first[i] = scattered_key(layout, multiplier, first[i], second[i])


@compiled
def _mark(keys: NDArray[np.uint64], shift: int, seen: NDArray[np.uint8]) -> None:
    """Set the bit of each key, which its high bits choose."""
    for i in range(len(keys)):
        bit = keys[i] >> shift
        seen[bit >> np.uint64(3)] |= np.uint8(1) << np.uint8(bit & np.uint64(7))
