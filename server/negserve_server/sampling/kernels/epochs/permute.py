"""The order of an epoch, compiled: an alternating Feistel network over Z_a x Z_b.

``docs/sampling.md``, *Order of an epoch*, defines it.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint32, store_uint32, store_uint64
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U4, U32

#: Rounds, half of them per half; enough for short lengths to have uniform orders, too.
NUM_ROUNDS = 16


@nb.njit(inline="always")
def _mix(value: int) -> int:
    """Hash 32 bits to 32 bits (C. Wellons' lowbias32)."""
    value = np.uint32(value)
    value = np.uint32((value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D))
    value = np.uint32((value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@nb.njit(inline="always")
def _round(half: int, other: int, key: int, size: int) -> int:
    """Round: shift one half, below ``size``, by a hash of the other."""
    step = (np.uint64(_mix(other ^ key)) * np.uint64(size)) >> U32
    moved = np.uint32(half + np.uint32(step))
    return np.uint32(moved - size) if moved >= size else moved


@compiled
def permute(
    start: int,
    count: int,
    length: int,
    num_left: int,
    num_right: int,
    keys: int,
    out: int,
    scratch: int,
) -> None:
    """Write the values at some positions.

    :param start: uint64, the first position
    :param count: uint64, number of positions
    :param length: uint64, length of the permutation
    :param num_left: uint32, size of the left half; times ``num_right``, at least ``length``
    :param keys: address of uint32, shape (16,)
    :param out: address of uint64, shape (count,), written
    :param scratch: address of memory to write to, 8 bytes per position
    """
    lefts = np.uint64(scratch)
    rights = lefts + U4 * count
    wide = np.uint64(num_right)
    for i in range(count):
        left = (start + i) // wide
        store_uint32(lefts, i, np.uint32(left))
        store_uint32(rights, i, np.uint32(start + i - left * wide))
    for turn in range(0, NUM_ROUNDS, 2):
        left_key, right_key = load_uint32(keys, turn), load_uint32(keys, turn + 1)
        for i in range(count):
            right = load_uint32(rights, i)
            left = _round(load_uint32(lefts, i), right, left_key, num_left)
            store_uint32(lefts, i, left)
            store_uint32(rights, i, _round(right, left, right_key, num_right))
    for i in range(count):
        index = np.uint64(load_uint32(lefts, i)) * wide + np.uint64(load_uint32(rights, i))
        while index >= length:
            # Cycle walk; rare, since the network permutes hardly more values than the length.
            left, right = np.uint32(index // wide), np.uint32(index % wide)
            for turn in range(0, NUM_ROUNDS, 2):
                left = _round(left, right, load_uint32(keys, turn), num_left)
                right = _round(right, left, load_uint32(keys, turn + 1), num_right)
            index = np.uint64(left) * wide + np.uint64(right)
        store_uint64(out, i, index)
