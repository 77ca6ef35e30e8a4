"""Hash set of (list, value): whether a value is known for a pair, with one cache line read.

A list of known values is identified by its start, so list and value are 64 bits in any id space.
The buckets are cache lines, compared as a whole: neither the time nor the branches of a lookup
depend on the length of the list. This pays if few values are looked up per pair; many values are
faster compared with the list itself.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import first_value
from negserve_server.index.pair_directory import MAX_PAIRS, find_lists, num_buckets_of
from negserve_server.jit.addresses import load_uint32, load_uint64, prefetch
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import FIBONACCI, MIX, U0, U1, U4, U32

#: Keys of a bucket, which is one cache line.
BUCKET = 8

#: Average keys of a bucket; with five, one bucket in eight is full.
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
    """Prefetch the line that :func:`is_member` will read."""
    prefetch(members, _bucket((start << U32) | value, num_buckets) << U4)


@nb.njit(inline="always")
def is_member(members: int, num_buckets: int, start: int, value: int) -> bool:
    """Whether the list that begins at ``start`` holds a value below 2^32.

    :param members: address of uint64, shape (num_buckets, 8)
    :param start: as :func:`.pair_directory.find_pair` returns it
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
    """Bytes of a set of values."""
    return 64 * (num_values // _AVERAGE + 1)


def make_members(num_values: int) -> NDArray[np.uint64]:
    """Empty set with room for a number of values, uint64, shape (num_buckets, 8)."""
    num_words = BUCKET * (num_values // _AVERAGE + 1)
    room = np.full(num_words + BUCKET, _EMPTY, dtype=np.uint64)
    skip = -(room.ctypes.data // 8) % BUCKET
    return room[skip : skip + num_words].reshape(-1, BUCKET)


@compiled
def fill_members(
    directory: int,
    lists: int,
    layout: int,
    multiplier: int,  # noqa: ARG001 (an index is always given whole)
    members: NDArray[np.uint64],
) -> None:
    """Insert the values of all pairs of an index.

    :param members: written; empty before
    """
    num_lines = np.uint64(members.shape[0])
    starts, lengths = np.empty(MAX_PAIRS, dtype=np.uint64), np.empty(MAX_PAIRS, dtype=np.uint64)
    for bucket in range(num_buckets_of(layout)):
        for i in range(find_lists(directory, lists, layout, bucket, starts, lengths)):
            start, length = starts[i], lengths[i]
            first = first_value(lists, start, length)
            for index in range(first, first + length):
                key = (start << U32) | np.uint64(load_uint32(lists, index))
                line = _bucket(key, num_lines)
                while members[line, BUCKET - 1] != _EMPTY:
                    line = line + U1 if line + U1 < num_lines else U0
                place = 0
                while members[line, place] != _EMPTY:
                    place += 1
                members[line, place] = key
