"""Directions of filter indexes as arrays: all that snapshots know of their layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from negserve_server.graph.snapshot.manifest import StoredIndex
from negserve_server.index import FilterIndex, PairIndex
from negserve_server.triple_columns import TripleColumns

#: The directions that are stored, by the slot of their values.
STORED_SLOTS = ("head", "tail")


def make_index(
    columns: TripleColumns, slot: str, num_entities: int, num_relations: int
) -> PairIndex:
    """Make the direction of the values of a slot."""
    return FilterIndex(columns, num_entities=num_entities, num_relations=num_relations).by_slot(
        slot
    )


def index_arrays(index: PairIndex, splits: tuple[str, ...], slot: str) -> dict[str, NDArray[Any]]:
    """Give the arrays of a direction, by their names in the snapshot."""
    return {f"{_prefix(splits, slot)}.{name}": each for name, each in index.arrays().items()}


def open_index(stored: StoredIndex, arrays: Mapping[str, NDArray[Any]]) -> PairIndex:
    """Make a direction of mapped arrays.

    :param arrays: of the whole snapshot
    :raises KeyError: if one is missing
    """
    prefix = f"{_prefix(stored.splits, stored.slot)}."
    own = {
        name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)
    }
    return PairIndex.from_arrays(own, stored.scalars)


def _prefix(splits: tuple[str, ...], slot: str) -> str:
    return f"index.{'+'.join(splits)}.{slot}"


def is_of_index(name: str) -> bool:
    """Tell whether an array belongs to an index."""
    return name.startswith("index.")
