"""Philox4x32-10, the counter-based generator behind every draw.

Salmon, Moraes, Dror and Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
section 4.3; published test vectors (Random123, ``kat_vectors``) are pinned in the tests.

A block of four 32-bit words is a pure function of a 128-bit counter and a 64-bit key. Here
the key is the seed and the counter ``(block, purpose, position low, position high)``, so a
draw depends on nothing but the seed and the position of its positive.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import store_uint32
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U1, U2, U4, U32

_MULTIPLY_0 = np.uint64(0xD2511F53)
_MULTIPLY_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint32(0x9E3779B9)  # golden ratio
_WEYL_1 = np.uint32(0xBB67AE85)  # sqrt(3) - 1
_ROUNDS = 10

#: Second counter word of the draws themselves, and of the redraw of a rejected one.
PURPOSE_DRAW = np.uint32(0)
PURPOSE_REDRAW = np.uint32(1)


@nb.njit(inline="always")
def philox4x32(
    counter_0: int, counter_1: int, counter_2: int, counter_3: int, key_0: int, key_1: int
) -> tuple[int, int, int, int]:
    """One block: four uint32 words from four uint32 counter words and two uint32 key words."""
    for _ in range(_ROUNDS):
        product_0 = np.uint64(counter_0) * _MULTIPLY_0
        product_1 = np.uint64(counter_2) * _MULTIPLY_1
        counter_0 = np.uint32(product_1 >> U32) ^ counter_1 ^ key_0
        counter_2 = np.uint32(product_0 >> U32) ^ counter_3 ^ key_1
        counter_1 = np.uint32(product_1)
        counter_3 = np.uint32(product_0)
        key_0 = np.uint32(key_0 + _WEYL_0)
        key_1 = np.uint32(key_1 + _WEYL_1)
    return counter_0, counter_1, counter_2, counter_3


@nb.njit(inline="always")
def fill_words(words: int, num_blocks: int, position: int, seed: int) -> None:
    """Write the words of the first ``num_blocks`` (int64) blocks of a position, four each.

    :param words: address of a uint32 array

    Blocks are independent of each other, so the loop is compiled to SIMD.
    """
    position_low = np.uint32(position)
    position_high = np.uint32(np.uint64(position) >> U32)
    key_0 = np.uint32(seed)
    key_1 = np.uint32(np.uint64(seed) >> U32)
    for block in range(num_blocks):
        word_0, word_1, word_2, word_3 = philox4x32(
            np.uint32(block), PURPOSE_DRAW, position_low, position_high, key_0, key_1
        )
        first = U4 * np.uint64(block)
        store_uint32(words, first, word_0)
        store_uint32(words, first + U1, word_1)
        store_uint32(words, first + U2, word_2)
        store_uint32(words, first + np.uint64(3), word_3)


@nb.njit(inline="always")
def fill_two_words(words: int, num_positions: int, position: int, seed: int) -> None:
    """Write the first two words of ``num_positions`` (int64) positions from one on.

    :param words: address of a uint32 array, two words a position
    """
    key_0 = np.uint32(seed)
    key_1 = np.uint32(np.uint64(seed) >> U32)
    for i in range(num_positions):
        own = np.uint64(position) + np.uint64(i)
        word_0, word_1, _, _ = philox4x32(
            np.uint32(0), PURPOSE_DRAW, np.uint32(own), np.uint32(own >> U32), key_0, key_1
        )
        store_uint32(words, U2 * np.uint64(i), word_0)
        store_uint32(words, U2 * np.uint64(i) + U1, word_1)


@nb.njit(inline="always")
def redraw(index: int, num_values: int, position: int, seed: int) -> int:
    """Draw from 0 to ``num_values`` - 1 again, with 64 bits, for a rejected draw."""
    word_0, word_1, _, _ = philox4x32(
        np.uint32(index),
        PURPOSE_REDRAW,
        np.uint32(position),
        np.uint32(np.uint64(position) >> U32),
        np.uint32(seed),
        np.uint32(np.uint64(seed) >> U32),
    )
    # The high word of the 96-bit product (word_0 * 2^32 + word_1) * num_values.
    wide = np.uint64(num_values)
    return (np.uint64(word_0) * wide + ((np.uint64(word_1) * wide) >> U32)) >> U32


@compiled
def blocks(counters: NDArray[np.uint32], keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Many blocks for tests and tools: counters (n, 4) and keys (n, 2) to words (n, 4)."""
    words = np.empty((counters.shape[0], 4), dtype=np.uint32)
    for i in range(counters.shape[0]):
        words[i, 0], words[i, 1], words[i, 2], words[i, 3] = philox4x32(
            counters[i, 0], counters[i, 1], counters[i, 2], counters[i, 3], keys[i, 0], keys[i, 1]
        )
    return words
