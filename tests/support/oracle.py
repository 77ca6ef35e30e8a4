"""Known triples, without the filter index."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from negserve_server.graph import TriplesFactory


def known(
    factory: TriplesFactory, triples: NDArray[np.int64], splits: tuple[str, ...]
) -> NDArray[np.bool_]:
    """Return for each triple, shape (..., 3), whether it is in one of the splits."""

    keys, queries = _keys(factory, splits), _pack(factory, triples)
    places = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return keys[places] == queries


@lru_cache(maxsize=16)
def _keys(factory: TriplesFactory, splits: tuple[str, ...]) -> NDArray[np.int64]:
    present = [split for split in splits if split in factory.splits]
    return np.sort(np.concatenate([_pack(factory, factory.splits[split]) for split in present]))


def _pack(factory: TriplesFactory, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    packed = rows[..., 0] * factory.num_relations + rows[..., 1]
    return packed * factory.num_entities + rows[..., 2]


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
