"""Hash set of known values: whether a value is known for a pair, with one cache line read.

A list of known values is identified by where it begins. List and value together are a key, which is
scattered and divided as that of a pair (:mod:`.pair_directory`): the high bits choose a line, which
stores the low ones. A line is a cache line, compared as a whole: neither the time nor the branches
of a lookup depend on the length of the list. The few keys that a full line has no room for are left
out: a value that is not in a full line is looked up in the list itself.

This pays if few values are looked up per pair; many values are faster compared with the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.index.known_lists import first_value, holds
from negserve_server.index.pair_directory import (
    MAX_PAIRS,
    find_lists,
    num_buckets_of,
    pack_layout,
    remainder_bits_of,
    scattered_key,
)
from negserve_server.jit.addresses import load_uint32, prefetch
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import FIBONACCI, U1, U4

#: Keys of a line.
LINE: Final = 16

#: Average keys of a line, at most. Of lines with 10, one in 40 has no room for all of its keys.
_AVERAGE: Final = 10

#: Most bits of a key that a line stores; all 32 bits mark an empty place.
_MAX_BITS: Final = 31

#: Most lines for each line that the number of keys needs.
_MAX_SPREAD: Final = 4

_EMPTY = np.uint32(2**32 - 1)
_LINE = np.uint64(LINE)
_LAST = np.uint64(LINE - 1)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class MemberSet:
    """Known values of an index.

    :ivar lines: uint32, shape (lines, 16)
    :ivar layout: sizes, see :func:`.pair_directory.pack_layout`; a list is the first of a pair
    """

    lines: NDArray[np.uint32]
    layout: int

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.lines.nbytes


@nb.njit(inline="always")
def prefetch_member(members: int, layout: int, start: int, value: int) -> None:
    """Prefetch the line that :func:`is_member` will read."""
    key = scattered_key(layout, FIBONACCI, start, value)
    prefetch(members, (key >> remainder_bits_of(layout)) << U4)


@nb.njit(inline="always")
def is_member(members: int, layout: int, lists: int, start: int, length: int, value: int) -> bool:
    """Whether a list holds a value below the number of values.

    :param members: address of the lines
    :param start: as :func:`.pair_directory.find_pair` returns it, and so ``length``
    """
    key = scattered_key(layout, FIBONACCI, start, value)
    bits = remainder_bits_of(layout)
    begin = (key >> bits) * _LINE
    remainder = np.uint32(key & ((U1 << bits) - U1))
    is_here = np.uint32(0)
    for i in range(_LINE):
        is_here |= np.uint32(load_uint32(members, begin + i) == remainder)
    if is_here != np.uint32(0):
        return True
    if load_uint32(members, begin + _LAST) == _EMPTY:
        return False
    return holds(lists, start, length, value)


def member_layout(num_words: int, num_ids: int, num_values: int) -> int | None:
    """Lay out the set of an index.

    :param num_words: words of its lists
    :param num_ids: values are below it
    :param num_values: number of values
    :return: None if the set would take too many lines, since there are so many ids
    """
    value_bits = (num_ids - 1).bit_length()
    key_bits = max((num_words - 1).bit_length() + value_bits, 1)
    line_bits = (-(-num_values // _AVERAGE) - 1).bit_length() if num_values else 0
    spread = max(key_bits - _MAX_BITS - line_bits, 0)
    if 2**spread > _MAX_SPREAD:
        return None
    line_bits = min(line_bits + spread, key_bits)
    return pack_layout(value_bits, key_bits, key_bits - line_bits)


def member_bytes(layout: int) -> int:
    """Bytes of a set."""
    return 4 * LINE << ((layout >> 8 & 255) - (layout >> 16 & 255))


def make_members(
    directory: np.uint64, lists: np.uint64, layout: np.uint64, member_layout: int
) -> MemberSet:
    """Make the set of an index, from its addresses and layout."""
    num_words = member_bytes(member_layout) // 4
    room = np.full(num_words + LINE, _EMPTY, dtype=np.uint32)
    skip = -(room.ctypes.data // 4) % LINE
    lines = room[skip : skip + num_words].reshape(-1, LINE)
    fill_members(directory, lists, layout, lines, np.uint64(member_layout))
    return MemberSet(lines, member_layout)


@compiled
def fill_members(
    directory: int, lists: int, layout: int, members: NDArray[np.uint32], member_layout: int
) -> None:
    """Insert the values of all pairs of an index, as far as there is room in their lines.

    :param members: written; empty before
    """
    starts, lengths = np.empty(MAX_PAIRS, dtype=np.uint64), np.empty(MAX_PAIRS, dtype=np.uint64)
    bits = remainder_bits_of(member_layout)
    for bucket in range(num_buckets_of(layout)):
        for i in range(find_lists(directory, lists, layout, bucket, starts, lengths)):
            first = first_value(lists, starts[i], lengths[i])
            for index in range(first, first + lengths[i]):
                key = scattered_key(member_layout, FIBONACCI, starts[i], load_uint32(lists, index))
                line = key >> bits
                for place in range(LINE):
                    if members[line, place] == _EMPTY:
                        members[line, place] = np.uint32(key & ((U1 << bits) - U1))
                        break
