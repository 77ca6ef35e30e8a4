"""The known values of pairs, in every way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from negserve import InvalidRequestError
from negserve.types.config import SLOTS, Slot
from negserve_server.graph import TriplesFactory
from tests.contract.conftest import ALL_SPLITS, Place, on_graphs


def kept_columns(slot: Slot) -> list[int]:
    return [column for column, name in enumerate(SLOTS) if name != slot]


def pairs_of(graph: TriplesFactory, slot: Slot) -> NDArray[np.int64]:
    """Pairs of triples of all splits, and arbitrary ones, most of which have no known value."""
    rng = np.random.default_rng(0)
    triples = np.concatenate([graph.splits[split] for split in graph.splits])
    triples = triples[rng.integers(0, len(triples), 300)]
    sizes = (graph.num_entities, graph.num_relations, graph.num_entities)
    columns = kept_columns(slot)
    others = np.stack([rng.integers(0, sizes[column], 100) for column in columns], axis=1)
    return np.concatenate([triples[:, columns], others])


def by_pair(
    graph: TriplesFactory, slot: Slot, splits: tuple[str, ...]
) -> dict[tuple[int, ...], set[int]]:
    """The known values of every pair, without an index."""
    found: dict[tuple[int, ...], set[int]] = {}
    column, columns = SLOTS.index(slot), kept_columns(slot)
    for split in splits:
        for triple in graph.splits[split].tolist():
            found.setdefault(tuple(triple[kept] for kept in columns), set()).add(triple[column])
    return found


@pytest.mark.covers("Known")
@on_graphs(slot=SLOTS, splits=[("training",), ("testing", "validation"), ALL_SPLITS])
def test_known_values_are_those_of_the_splits(place: Place, slot: Slot, splits: tuple[str, ...]):
    pairs = pairs_of(place.graph, slot)
    expected = by_pair(place.graph, slot, splits)
    known = place.factory.known(pairs, slot, splits)
    assert len(known) == len(pairs)
    assert [values.tolist() for values in known] == [
        sorted(expected.get(tuple(pair), ())) for pair in pairs.tolist()
    ]
    num_ids = place.graph.num_relations if slot == "relation" else place.graph.num_entities
    assert known.values.dtype == np.min_scalar_type(num_ids - 1)
    assert known.counts.dtype == np.int64


def test_no_pairs_have_no_values(world: Place):
    known = world.factory.known(np.empty((0, 2), dtype=np.int64), "tail", ("training",))
    assert len(known) == 0
    assert known.values.shape == (0,)
    assert known.offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("pairs", "slot", "splits", "reason"),
    [
        ([[0, 0, 0]], "tail", ("training",), "SHAPE_MISMATCH"),
        ([[0.0, 0.0]], "tail", ("training",), "SHAPE_MISMATCH"),
        ([[0, 0]], "object", ("training",), "INVALID_CONFIGURATION"),
        ([[0, 0]], "tail", ("train",), "INVALID_CONFIGURATION"),
        ([[0, 0]], "tail", (), "INVALID_CONFIGURATION"),
        ([[0, 29]], "tail", ("training",), "RELATION_ID_OUT_OF_RANGE"),
        ([[29, 0]], "head", ("training",), "RELATION_ID_OUT_OF_RANGE"),
        ([[0, -1]], "head", ("training",), "ENTITY_ID_OUT_OF_RANGE"),
    ],
)
def test_wrong_questions_are_refused(
    world: Place, pairs: list[list[int]], slot: Slot, splits: tuple[str, ...], reason: str
):
    assert world.graph.num_relations == 29
    with pytest.raises(InvalidRequestError) as refused:
        world.factory.known(np.array(pairs), slot, splits)
    assert refused.value.reason == reason


@pytest.mark.parametrize("num_before", [0, 300_000])
def test_the_row_of_an_error_is_that_of_the_call(world: Place, num_before: int):
    """The client sends several messages, and the server looks up large ones in slices."""
    rows = np.zeros((num_before + 200_000, 3), dtype=np.int64)
    row = len(rows) - 1
    rows[row] = 9999, 0, 0
    factory = world.factory
    for ask in (
        lambda: factory.contains(rows, ("training",)),
        lambda: factory.known(rows[:, :2], "tail", ("training",)),
        lambda: factory.open_sampler(num_negs_per_pos=1).sample(rows, 0),
    ):
        with pytest.raises(InvalidRequestError, match=f"head id 9999 of row {row} ") as refused:
            ask()
        assert refused.value.metadata["row"] == str(row)
