"""Questions about many pairs, or one, asked from Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import first_value, holds
from negserve_server.index.pair_directory import find_pair
from negserve_server.jit.addresses import load_uint32
from negserve_server.jit.compiled import compiled


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


@compiled
def find_values(
    directory: int,
    lists: int,
    layout: int,
    multiplier: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    starts: NDArray[np.uint64],
    lengths: NDArray[np.int64],
) -> None:
    """Write the index of the first value of each pair, and the number of values; shape (n,)."""
    for i in range(first.shape[0]):
        start, length = find_pair(directory, lists, layout, multiplier, first[i], second[i])
        starts[i] = first_value(lists, start, length)
        lengths[i] = np.int64(length)


@compiled
def copy_values(
    lists: int, starts: NDArray[np.uint64], lengths: NDArray[np.int64], out: NDArray[np.uint32]
) -> None:
    """Write values one after another.

    :param starts: index of the first of each run, shape (n,)
    :param lengths: length of each run, shape (n,)
    :param out: shape (sum of lengths,), written
    """
    at = 0
    for i in range(starts.shape[0]):
        start = starts[i]
        for j in range(lengths[i]):
            out[at] = load_uint32(lists, start + np.uint64(j))
            at += 1
