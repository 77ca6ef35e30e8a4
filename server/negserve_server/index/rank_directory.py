"""Directories over long sorted lists: how many values precede the u-th that is not there.

Of the values below ``v[i]``, exactly ``w[i] = v[i] - i`` are not in the sorted list ``v``. The
u-th value that is not in it (from 0) is therefore ``u + c`` with ``c`` the number of i with
``w[i] <= u``. A directory divides the range of ``w`` into about three buckets per value and
notes where each begins, so that c is found by one look-up and a search within a bucket,
which usually holds one value or none.

A directory is ``shift, steps, num_buckets, begin[0], ..., begin[num_buckets + 1]`` (uint32):
bucket ``b = min(u >> shift, num_buckets)`` holds the i from ``begin[b]`` to
``begin[b + 1] - 1``, and ``steps`` halvings search any of them.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.compiled import compiled

#: Lists longer than this have a directory; shorter ones are passed value by value.
SHORT_LIST = 24

#: Buckets per value, at least; twice that at most.
_BUCKETS_PER_VALUE = 3

#: Words of a directory before its first bucket.
HEADER = 3


@nb.njit(inline="always")
def _range_and_shift(last: int, length: int) -> tuple[int, int]:
    """How far the ``w`` of a list reach, and how wide its buckets are, as a power of two.

    :param last: its largest value
    """
    top = np.int64(last) - length + 2
    shift = 0
    while (top >> (shift + 1)) >= _BUCKETS_PER_VALUE * length:
        shift += 1
    return top, shift


@compiled
def _sizes(
    values: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Words that the directory of each list takes, 0 for a short one."""
    sizes = np.zeros(len(starts), dtype=np.int64)
    for i in range(len(starts)):
        if lengths[i] > SHORT_LIST:
            top, shift = _range_and_shift(values[starts[i] + lengths[i] - 1], lengths[i])
            sizes[i] = HEADER + (top >> shift) + 3
    return sizes


@compiled
def _fill(
    values: NDArray[np.uint32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    places: NDArray[np.int64],
    directory: NDArray[np.uint32],
) -> None:
    for i in range(len(starts)):
        length = lengths[i]
        if length <= SHORT_LIST:
            continue
        start, place = starts[i], places[i]
        values[start + length] = place
        top, shift = _range_and_shift(values[start + length - 1], length)
        num_buckets = (top >> shift) + 1
        fullest = 0
        at = 0
        for bucket in range(num_buckets + 1):
            begin = at
            directory[place + HEADER + bucket] = begin
            while at < length and (np.int64(values[start + at]) - at) >> shift <= bucket:
                at += 1
            fullest = max(fullest, at - begin)
        directory[place + HEADER + num_buckets + 1] = length
        steps = 0
        while fullest >> steps > 0:
            steps += 1
        directory[place] = shift
        directory[place + 1] = steps
        directory[place + 2] = num_buckets


def build_directories(
    values: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Make the directories of all long lists.

    :param values: the lists; behind each long one there is a free place, into which the index
        of its directory is written
    :param starts: where each list begins
    :param lengths: how long it is, without the free place
    :return: the directories, one behind the other
    :raises ValueError: if they take more than 2^32 - 1 words
    """
    sizes = _sizes(values, starts, lengths)
    places = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    if total >= 2**32:
        raise ValueError(f"directories of {total} words: one index holds at most {2**32 - 1}")
    directory = np.zeros(total, dtype=np.uint32)
    _fill(values, starts, lengths, places, directory)
    return directory
