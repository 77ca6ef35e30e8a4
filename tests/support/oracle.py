"""Known triples, without the filter index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.graph import TriplesFactory


def known(
    factory: TriplesFactory, triples: NDArray[np.int64], splits: tuple[str, ...]
) -> NDArray[np.bool_]:
    """Return for each triple, shape (..., 3), whether it is in one of the splits."""

    def pack(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        packed = rows[..., 0] * factory.num_relations + rows[..., 1]
        return packed * factory.num_entities + rows[..., 2]

    present = [split for split in splits if split in factory.splits]
    return np.isin(pack(triples), np.concatenate([pack(factory.splits[s]) for s in present]))


def legal_values(
    factory: TriplesFactory, triple: tuple[int, int, int], column: int, splits: tuple[str, ...]
) -> set[int]:
    """Return the values that may replace a column: not the original, not known."""
    size = factory.num_relations if column == 1 else factory.num_entities
    rows = np.tile(np.array(triple, dtype=np.int64), (size, 1))
    rows[:, column] = np.arange(size)
    legal = (
        set(np.flatnonzero(~known(factory, rows, splits)).tolist()) if splits else set(range(size))
    )
    return legal - {triple[column]}
