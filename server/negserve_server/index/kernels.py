"""Compiled lookups: the hash table of pairs and the search in a sorted list."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.compiled import compiled

_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_MIX = np.uint64(0xD6E8FEB86659FD93)
_32 = np.uint64(32)
_MASK32 = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


@nb.njit(inline="always")
def pair_key(first: int, second: int) -> int:
    """Pack two ids below 2^32 into the 64-bit key of their pair."""
    return (np.uint64(first) << _32) | np.uint64(second)


@nb.njit(inline="always")
def _bucket(key: int, mask: int) -> int:
    mixed = np.uint64(key) * _HASH
    mixed = (mixed ^ (mixed >> _32)) * _MIX
    return (mixed >> _32) & mask


@nb.njit(inline="always")
def find_pair(table: NDArray[np.uint64], key: int) -> tuple[int, int]:
    """Where the values of a pair lie: ``(start, length)``, length 0 if there are none.

    ``table``: uint64 (capacity, 2), capacity a power of two; a row is the key and
    ``length << 32 | start``, so that a hit costs one cache line. A row whose length is 0
    is empty, which leaves every key legal.
    """
    mask = np.uint64(table.shape[0] - 1)
    at = _bucket(key, mask)
    while True:
        entry = table[at, 1]
        length = entry >> _32
        if length == 0:
            return np.int64(0), np.int64(0)
        if table[at, 0] == key:
            return np.int64(entry & _MASK32), np.int64(length)
        at = (at + _ONE) & mask


@nb.njit(inline="always")
def lower_bound(values: NDArray[np.uint32], start: int, length: int, value: int) -> int:
    """How many of the ``length`` sorted values from ``start`` on are below ``value``."""
    # Without branches that depend on the data: a wrong guess costs more than a step.
    if length == 0:
        return np.int64(0)
    low = np.int64(0)
    size = np.int64(length)
    while size > 1:
        half = size >> 1
        low += half if values[np.uint64(start + low + half - 1)] < value else np.int64(0)
        size -= half
    return low + np.int64(values[np.uint64(start + low)] < value)


@compiled
def fill_table(
    table: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Enter pairs into an empty table: key i owns ``lengths[i]`` values from ``starts[i]`` on."""
    mask = np.uint64(table.shape[0] - 1)
    for i in range(keys.shape[0]):
        at = _bucket(keys[i], mask)
        while table[at, 1] != 0:
            at = (at + _ONE) & mask
        table[at, 0] = keys[i]
        table[at, 1] = (np.uint64(lengths[i]) << _32) | np.uint64(starts[i])


@compiled
def contains_values(
    table: NDArray[np.uint64],
    values: NDArray[np.uint32],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    value: NDArray[np.integer],
    out: NDArray[np.bool_],
) -> None:
    """Write for each (pair, value) whether it is known; all of shape (n,)."""
    for i in range(first.shape[0]):
        start, length = find_pair(table, pair_key(first[i], second[i]))
        wanted = np.uint32(value[i])
        at = lower_bound(values, start, length, wanted)
        out[i] = at < length and values[start + at] == wanted


@compiled
def find_one(table: NDArray[np.uint64], key: int) -> tuple[int, int]:
    """:func:`find_pair` for callers outside compiled code."""
    return find_pair(table, key)  # type: ignore[no-any-return]
