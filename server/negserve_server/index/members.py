"""Whether a value is known for a pair, with one memory touch: a hash set of list and value.

A list of known values is named by where it begins, so that list and value are 64 bits together,
in any id space. They lie in buckets of a cache line, which is compared in one go: how long a list
is makes no difference, neither to the time nor to what the processor guesses. That pays where few
values are looked up per pair; many are sooner compared with the list itself.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import first_value
from negserve_server.jit.addresses import load_uint64, prefetch
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import FIBONACCI, LOW_32, MIX, U0, U1, U4, U32

#: Keys of a bucket: one cache line.
BUCKET = 8

#: Keys of a bucket on average: at five, one bucket in eight is full.
_AVERAGE = 5

_EMPTY = np.uint64(2**64 - 1)
_BUCKET = np.uint64(BUCKET)
_LAST = np.uint64(BUCKET - 1)


@nb.njit(inline="always")
def _bucket(key: int, num_buckets: int) -> int:
    mixed = key * FIBONACCI
    mixed = (mixed ^ (mixed >> U32)) * MIX
    return ((mixed >> U32) * num_buckets) >> U32


@nb.njit(inline="always")
def prefetch_member(members: int, num_buckets: int, start: int, value: int) -> None:
    """Ask for the line that :func:`is_member` will read."""
    prefetch(members, _bucket((start << U32) | value, num_buckets) << U4)


@nb.njit(inline="always")
def is_member(members: int, num_buckets: int, start: int, value: int) -> bool:
    """Whether the list that begins at ``start`` holds a value below 2^32.

    :param members: address of a uint64 array (num_buckets, 8)
    :param start: as the table of pairs gives it
    """
    key = (start << U32) | value
    bucket = _bucket(key, num_buckets)
    while True:
        begin = bucket * _BUCKET
        is_here = U0
        for i in range(_BUCKET):
            is_here |= np.uint64(load_uint64(members, begin + i) == key)
        if is_here != U0:
            return True
        if load_uint64(members, begin + _LAST) == _EMPTY:
            return False
        bucket = bucket + U1 if bucket + U1 < num_buckets else U0


def members_bytes(num_values: int) -> int:
    """Give the bytes of a set of so many values."""
    return 64 * (num_values // _AVERAGE + 1)


def make_members(num_values: int) -> NDArray[np.uint64]:
    """Make an empty set with room for so many values, uint64, shape (num_buckets, 8)."""
    num_words = BUCKET * (num_values // _AVERAGE + 1)
    room = np.full(num_words + BUCKET, _EMPTY, dtype=np.uint64)
    skip = -(room.ctypes.data // 8) % BUCKET
    return room[skip : skip + num_words].reshape(-1, BUCKET)


@compiled
def fill_members(
    table: NDArray[np.uint64], lists: NDArray[np.uint32], members: NDArray[np.uint64]
) -> None:
    """Enter the values of all pairs.

    :param table: the pairs, see :func:`~negserve_server.index.kernels.find_pair`
    :param lists: their values, see :mod:`.known_lists`
    :param members: empty before
    """
    num_buckets = np.uint64(members.shape[0])
    lists_address = np.uint64(lists.ctypes.data)
    for row in range(table.shape[0]):
        start, length = table[row, 1] & LOW_32, table[row, 1] >> U32
        if length == U0:
            continue
        first = first_value(lists_address, start, length)
        for index in range(first, first + length):
            key = (start << U32) | np.uint64(lists[index])
            bucket = _bucket(key, num_buckets)
            while members[bucket, BUCKET - 1] != _EMPTY:
                bucket = bucket + U1 if bucket + U1 < num_buckets else U0
            place = 0
            while members[bucket, place] != _EMPTY:
                place += 1
            members[bucket, place] = key
