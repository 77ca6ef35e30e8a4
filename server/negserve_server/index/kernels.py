"""Compiled lookups: the hash table of pairs, and whether a value is known.

The helpers take arrays by their addresses, see :mod:`negserve_server.jit.addresses`.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import first_value, holds
from negserve_server.jit.addresses import load_uint64, prefetch
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import FIBONACCI, LOW_32, MIX, U0, U1, U2, U32

#: Where no list begins, since lists take four words or more.
NO_START = np.uint64(2**32 - 2)


@nb.njit(inline="always")
def pair_key(first: int, second: int) -> int:
    """Pack two ids below 2^32 into the 64-bit key of their pair."""
    return (np.uint64(first) << U32) | np.uint64(second)


@nb.njit(inline="always")
def _bucket(key: int, mask: int) -> int:
    mixed = np.uint64(key) * FIBONACCI
    mixed = (mixed ^ (mixed >> U32)) * MIX
    return (mixed >> U32) & mask


@nb.njit(inline="always")
def prefetch_pair(table: int, mask: int, key: int) -> None:
    """Ask for the line of a pair, which :func:`find_pair` will read soon."""
    prefetch(table, _bucket(key, mask) << U2)


@nb.njit(inline="always")
def find_pair(table: int, mask: int, key: int) -> tuple[int, int]:
    """Where the values of a pair lie: ``(start, length)``, ``(NO_START, 0)`` if there are none.

    :param table: address of a uint64 array (capacity, 2); a row is the key and
        ``length << 32 | start``, so that a hit costs one cache line. A row whose length is 0
        is empty, which leaves every key legal.
    :param mask: its capacity, a power of two, less one
    """
    at = _bucket(key, mask)
    while True:
        row = at + at
        entry = load_uint64(table, row + U1)
        if (entry >> U32) == U0:
            return NO_START, U0
        if load_uint64(table, row) == key:
            return entry & LOW_32, entry >> U32
        at = (at + U1) & mask


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
            at = (at + U1) & mask
        table[at, 0] = keys[i]
        table[at, 1] = (np.uint64(lengths[i]) << U32) | np.uint64(starts[i])


@compiled
def contains_values(
    table: NDArray[np.uint64],
    lists: NDArray[np.uint32],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    value: NDArray[np.integer],
    out: NDArray[np.bool_],
) -> None:
    """Write for each (pair, value) whether it is known; all of shape (n,)."""
    table_address = np.uint64(table.ctypes.data)
    lists_address = np.uint64(lists.ctypes.data)
    mask = np.uint64(table.shape[0] - 1)
    for i in range(first.shape[0]):
        start, length = find_pair(table_address, mask, pair_key(first[i], second[i]))
        out[i] = holds(lists_address, start, length, np.uint64(value[i]))


@compiled
def count_values(
    table: NDArray[np.uint64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Write how many values each pair has; all of shape (n,)."""
    table_address = np.uint64(table.ctypes.data)
    mask = np.uint64(table.shape[0] - 1)
    for i in range(first.shape[0]):
        _, length = find_pair(table_address, mask, pair_key(first[i], second[i]))
        out[i] = np.int64(length)


@compiled
def find_one(table: NDArray[np.uint64], lists: NDArray[np.uint32], key: int) -> tuple[int, int]:
    """Index of the first value of a pair, and how many it has, for callers in Python."""
    start, length = find_pair(
        np.uint64(table.ctypes.data), np.uint64(table.shape[0] - 1), np.uint64(key)
    )
    return first_value(np.uint64(lists.ctypes.data), start, length), length
