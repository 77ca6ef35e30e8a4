"""The cell table: addresses and sizes of the arrays that the cells draw from.

One row per cell, uint64, shape (cells, 16). A cell is a slot of a kind (``docs/sampling.md``). An
address is :data:`~negserve_server.jit.addresses.NULL` where there is no such array.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint64
from negserve_server.jit.constants import MAX_64

#: Slot that is replaced: 0 head, 1 relation, 2 tail.
SLOT: Final = np.uint64(0)
#: Size of the slot's id space.
NUM_IDS: Final = np.uint64(1)
#: Directory of pairs, and the lists of known values (as ranks).
PAIR_DIRECTORY: Final = np.uint64(2)
KNOWN_LISTS: Final = np.uint64(3)
#: Sizes of the directory, and the multiplier of its scattered keys.
PAIR_LAYOUT: Final = np.uint64(4)
PAIR_MULTIPLIER: Final = np.uint64(5)
#: Candidates of each relation: index of the first (int64; -1 if every id is a candidate), their
#: number (int64) and the ids (uint32). NULL if every id is a candidate of every relation.
CANDIDATE_STARTS: Final = np.uint64(6)
CANDIDATE_COUNTS: Final = np.uint64(7)
CANDIDATE_IDS: Final = np.uint64(8)
#: Weighted cells only. First unit of each rank (uint32, and the number of units at the end); units
#: of the values before each value of a list (uint32, at the indices of the lists).
UNIT_STARTS: Final = np.uint64(9)
UNITS_BEFORE: Final = np.uint64(10)
#: Weighted cells only. Guide table (uint32), the width of its buckets as a power of two, and the
#: bisection steps that search a bucket.
GUIDE: Final = np.uint64(11)
GUIDE_SHIFT: Final = np.uint64(12)
GUIDE_STEPS: Final = np.uint64(13)
#: Weighted cells only. Rank of each id (uint32; :data:`NO_RANK_32` for no candidate).
RANKS: Final = np.uint64(14)
#: Elements from the candidates of a relation to those of the next: 1, or 0 if one element of
#: CANDIDATE_STARTS and CANDIDATE_COUNTS is for all relations.
CANDIDATE_STRIDE: Final = np.uint64(15)

NUM_FIELDS: Final = 16

#: Rank of an id that is no candidate, in 64 and in 32 bits.
NO_RANK: Final = MAX_64
NO_RANK_32: Final = np.uint32(0xFFFFFFFF)

_NUM_FIELDS = np.uint64(NUM_FIELDS)


@nb.njit(inline="always")
def field(cell_table: int, cell: int, name: int) -> int:
    """Load a field of a cell.

    :param cell_table: address
    :param name: one of the constants of this module
    """
    return load_uint64(cell_table, np.uint64(cell) * _NUM_FIELDS + name)
