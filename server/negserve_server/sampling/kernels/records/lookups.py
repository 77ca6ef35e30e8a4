"""Lookups of one positive: how many negatives each cell gives, and its list of known values.

One row per cell, uint64, shape (cells, 3). A list is found in three steps: line of the directory,
bucket, list. Each is taken some positives after the memory was asked for what it reads.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np

from negserve_server.index.pair_directory import (
    find_bucket,
    find_in_bucket,
    prefetch_bucket_line,
    scattered_key,
)
from negserve_server.jit.addresses import load_uint64, prefetch, store_uint64
from negserve_server.jit.constants import LINE_WORDS, LOW_48, U0, U1, U2, U48
from negserve_server.sampling.kernels.records.cell_table import (
    KNOWN_LISTS,
    PAIR_DIRECTORY,
    PAIR_LAYOUT,
    PAIR_MULTIPLIER,
    SLOT,
    field,
)

#: Negatives that are allocated to the cell.
LOOKUP_COUNT: Final = np.uint64(0)
#: The list of known values: where it begins, and its length. Before it is found: the scattered key
#: of its pair; and the first word of its bucket, and in the upper 16 bits the number of words.
LOOKUP_START: Final = np.uint64(1)
LOOKUP_LENGTH: Final = np.uint64(2)

NUM_LOOKUPS: Final = np.uint64(3)
#: Bytes of a cell's row.
LOOKUP_BYTES: Final = np.uint64(24)


@nb.njit(inline="always")
def lookup(lookups: int, cell: int, name: int) -> int:
    """Load a lookup of a cell.

    :param lookups: address
    :param name: one of the constants of this module
    """
    return load_uint64(lookups, np.uint64(cell) * NUM_LOOKUPS + name)


@nb.njit(inline="always")
def set_lookup(lookups: int, cell: int, name: int, value: int) -> None:
    """Store a lookup of a cell."""
    store_uint64(lookups, np.uint64(cell) * NUM_LOOKUPS + name, value)


@nb.njit(inline="always")
def _pair(slot: int, head: int, relation: int, tail: int) -> tuple[int, int]:
    """Pair of ids that stays when a slot is replaced."""
    if slot == U0:
        return relation, tail
    if slot == U2:
        return head, relation
    return head, tail


@nb.njit(inline="always")
def original_of(slot: int, head: int, relation: int, tail: int) -> int:
    """Id that is replaced, as uint64."""
    if slot == U0:
        return np.uint64(head)
    return np.uint64(tail) if slot == U2 else np.uint64(relation)


@nb.njit(inline="always")
def ask_for_line(
    cell_table: int, lookups: int, cell: int, head: int, relation: int, tail: int
) -> None:
    """First step: scatter the key of the pair, and prefetch its line of the directory."""
    layout, multiplier = (
        field(cell_table, cell, PAIR_LAYOUT),
        field(cell_table, cell, PAIR_MULTIPLIER),
    )
    first, second = _pair(field(cell_table, cell, SLOT), head, relation, tail)
    key = scattered_key(layout, multiplier, first, second)
    set_lookup(lookups, cell, LOOKUP_START, key)
    prefetch_bucket_line(field(cell_table, cell, PAIR_DIRECTORY), layout, key)


@nb.njit(inline="always")
def ask_for_bucket(cell_table: int, lookups: int, cell: int) -> None:
    """Second step: find the bucket, and prefetch it."""
    begin, end = find_bucket(
        field(cell_table, cell, PAIR_DIRECTORY),
        field(cell_table, cell, PAIR_LAYOUT),
        lookup(lookups, cell, LOOKUP_START),
    )
    set_lookup(lookups, cell, LOOKUP_LENGTH, ((end - begin) << U48) | begin)
    lists = field(cell_table, cell, KNOWN_LISTS)
    # Both lines, whatever the size: a mispredicted branch costs more than a line.
    prefetch(lists, begin)
    prefetch(lists, end - U1)


@nb.njit(inline="always")
def find_list(cell_table: int, lookups: int, cell: int) -> None:
    """Last step: find the list of known values in its bucket, and prefetch its first lines."""
    bucket = lookup(lookups, cell, LOOKUP_LENGTH)
    begin = bucket & LOW_48
    lists = field(cell_table, cell, KNOWN_LISTS)
    start, length = find_in_bucket(
        lists,
        field(cell_table, cell, PAIR_LAYOUT),
        lookup(lookups, cell, LOOKUP_START),
        begin,
        begin + (bucket >> U48),
    )
    set_lookup(lookups, cell, LOOKUP_START, start)
    set_lookup(lookups, cell, LOOKUP_LENGTH, length)
    prefetch(lists, start)
    prefetch(lists, start + LINE_WORDS)


@nb.njit(inline="always")
def find_list_now(
    cell_table: int, lookups: int, cell: int, head: int, relation: int, tail: int
) -> None:
    """All three steps at once."""
    ask_for_line(cell_table, lookups, cell, head, relation, tail)
    ask_for_bucket(cell_table, lookups, cell)
    find_list(cell_table, lookups, cell)
