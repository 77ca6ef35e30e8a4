"""The cell state: what each cell has to offer to one positive, and how much of it is drawn.

One row per cell, uint64, shape (cells, 8); written by :mod:`.preparation`.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint64, store_uint64
from negserve_server.jit.constants import MAX_64

#: The list of excluded values: where it begins among the known lists, and its length.
LIST_START: Final = np.uint64(0)
LIST_LENGTH: Final = np.uint64(1)
#: Index of the first candidate (:data:`ALL_IDS` if ranks are ids), and number of candidates.
FIRST_CANDIDATE: Final = np.uint64(2)
NUM_RANKS: Final = np.uint64(3)
#: Rank of the original; ``NO_RANK`` if it is no candidate.
ORIGINAL: Final = np.uint64(4)
#: 1 if the original is excluded in addition to the list, which does not hold it; else 0.
IS_ORIGINAL_EXTRA: Final = np.uint64(5)
#: Legal units, M in ``docs/sampling.md``.
NUM_LEGAL: Final = np.uint64(6)
#: Negatives that the cell gives.
COUNT: Final = np.uint64(7)

NUM_STATES: Final = np.uint64(8)
#: Bytes of a cell's row.
STATE_BYTES: Final = np.uint64(64)

#: ``FIRST_CANDIDATE`` of a cell in which every id is a candidate.
ALL_IDS: Final = MAX_64


@nb.njit(inline="always")
def state(cell_state: int, cell: int, name: int) -> int:
    """Load a state of a cell.

    :param cell_state: address
    :param name: one of the constants of this module
    """
    return load_uint64(cell_state, np.uint64(cell) * NUM_STATES + name)


@nb.njit(inline="always")
def set_state(cell_state: int, cell: int, name: int, value: int) -> None:
    """Store a state of a cell."""
    store_uint64(cell_state, np.uint64(cell) * NUM_STATES + name, np.uint64(value))
