"""Lookups of one positive: how many negatives each cell gives, and its list of known values.

One row per cell, uint64, shape (cells, 3). The hash table and the lists are read some positives
after the memory was asked for them.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np

from negserve_server.index.pair_table import find_pair, pair_key, prefetch_pair
from negserve_server.jit.addresses import load_uint64, prefetch, store_uint64
from negserve_server.jit.constants import LINE_WORDS, U0, U2
from negserve_server.sampling.kernels.records.cell_table import (
    KNOWN_LISTS,
    PAIR_TABLE,
    PAIR_TABLE_MASK,
    SLOT,
    field,
)

#: Negatives that are allocated to the cell.
LOOKUP_COUNT: Final = np.uint64(0)
#: The list of known values: where it begins, and its length.
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
def _key(slot: int, head: int, relation: int, tail: int) -> int:
    """Key of the pair that stays when a slot is replaced."""
    if slot == U0:
        return pair_key(relation, tail)
    if slot == U2:
        return pair_key(head, relation)
    return pair_key(head, tail)


@nb.njit(inline="always")
def original_of(slot: int, head: int, relation: int, tail: int) -> int:
    """Id that is replaced, as uint64."""
    if slot == U0:
        return np.uint64(head)
    return np.uint64(tail) if slot == U2 else np.uint64(relation)


@nb.njit(inline="always")
def prefetch_list(cell_table: int, cell: int, head: int, relation: int, tail: int) -> None:
    """Prefetch the line of the hash table that :func:`find_list` will read."""
    table, mask = field(cell_table, cell, PAIR_TABLE), field(cell_table, cell, PAIR_TABLE_MASK)
    prefetch_pair(table, mask, _key(field(cell_table, cell, SLOT), head, relation, tail))


@nb.njit(inline="always")
def find_list(
    cell_table: int, lookups: int, cell: int, head: int, relation: int, tail: int
) -> None:
    """Look up the list of known values of a cell, and prefetch its first lines."""
    table, mask = field(cell_table, cell, PAIR_TABLE), field(cell_table, cell, PAIR_TABLE_MASK)
    key = _key(field(cell_table, cell, SLOT), head, relation, tail)
    start, length = find_pair(table, mask, key)
    set_lookup(lookups, cell, LOOKUP_START, start)
    set_lookup(lookups, cell, LOOKUP_LENGTH, length)
    lists = field(cell_table, cell, KNOWN_LISTS)
    # Both lines, whatever the length: a mispredicted branch costs more than a line.
    prefetch(lists, start)
    prefetch(lists, start + LINE_WORDS)
