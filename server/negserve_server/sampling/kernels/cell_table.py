"""Where kernels find what a cell draws from: one row of addresses and sizes per cell.

A cell is a slot of a kind (``docs/sampling.md``). Rows are uint64; an address is
:data:`~negserve_server.jit.addresses.NULL` where there is no such array.
"""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint64

#: Column of the slot that is replaced: 0 head, 1 relation, 2 tail.
SLOT: Final = np.uint64(0)
#: How many ids the slot has.
NUM_IDS: Final = np.uint64(1)
#: Hash table of pairs, its capacity less one, lists of known values (as ranks).
PAIR_TABLE: Final = np.uint64(2)
PAIR_TABLE_MASK: Final = np.uint64(3)
KNOWN_LISTS: Final = np.uint64(4)
#: Candidates of each relation: where they begin (int64; -1 for all ids), how many they are
#: (int64), and ids (uint32). Nowhere if all ids are candidates of all relations; one number of
#: each, and :data:`CANDIDATE_STRIDE` 0, if the candidates of all relations are the same.
CANDIDATE_STARTS: Final = np.uint64(5)
CANDIDATE_COUNTS: Final = np.uint64(6)
CANDIDATE_IDS: Final = np.uint64(7)
#: Weighted only: where the units of each rank begin (uint32, one more at the end), units of the
#: list's values before each of its values (uint32, at the indices of the lists), the guide table
#: (uint32) with the width of its buckets as a power of two and the halvings that search one, and
#: the rank of each id (uint32; :data:`NO_RANK` for no candidate).
UNIT_STARTS: Final = np.uint64(8)
UNITS_BEFORE: Final = np.uint64(9)
GUIDE: Final = np.uint64(10)
GUIDE_SHIFT: Final = np.uint64(11)
GUIDE_STEPS: Final = np.uint64(12)
RANKS: Final = np.uint64(13)

#: Numbers from the candidates of a relation to those of the next: 0 or 1.
CANDIDATE_STRIDE: Final = np.uint64(14)

NUM_FIELDS: Final = 15

#: Rank of an id that is no candidate.
NO_RANK: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
NO_RANK_32: Final = np.uint32(0xFFFFFFFF)

_NUM_FIELDS = np.uint64(NUM_FIELDS)


@nb.njit(inline="always")
def field(places: int, cell: int, name: Any) -> int:
    """Load a column of a cell's row.

    :param places: address of uint64, shape (cells, 15)
    """
    return load_uint64(places, np.uint64(cell) * _NUM_FIELDS + name)
