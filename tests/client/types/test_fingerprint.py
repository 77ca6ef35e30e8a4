"""The client's fingerprints are the server's."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from negserve import InvalidRequestError
from negserve.types.fingerprint import distinct_triples, graph_fingerprint, split_fingerprint
from negserve_server import graph
from tests.support.graphs import GRAPHS, load


@pytest.mark.parametrize("name", GRAPHS)
def test_of_real_graphs_in_any_order_with_repetitions(name: str):
    loaded = load(name)
    sizes = loaded.num_entities, loaded.num_relations
    random = np.random.default_rng(3)
    ours = {}
    for split, triples in loaded.splits.items():
        shuffled = random.permutation(np.concatenate([triples, triples[::3]]))
        np.testing.assert_array_equal(distinct_triples(shuffled, *sizes), triples)
        ours[split] = split_fingerprint(torch.from_numpy(shuffled), *sizes)
    assert ours == loaded.split_fingerprints
    unconstrained = graph.TriplesFactory(
        loaded.splits, num_entities=sizes[0], num_relations=sizes[1]
    )
    assert graph_fingerprint(dict(reversed(ours.items()))) == unconstrained.fingerprint


@pytest.mark.parametrize(
    ("num_entities", "num_relations"),
    [(3, 2), (1, 1), (2**31, 2), (2**31, 4), (2**32, 2**32), (5, 2**32)],
)
def test_of_id_spaces_of_any_size(num_entities: int, num_relations: int):
    random = np.random.default_rng(4)
    triples = np.stack(
        [random.integers(size, size=500) for size in (num_entities, num_relations, num_entities)], 1
    )
    triples[7] = num_entities - 1, num_relations - 1, num_entities - 1
    expected = graph.TriplesFactory(
        {"training": triples}, num_entities=num_entities, num_relations=num_relations
    )
    found = split_fingerprint(triples.tolist(), num_entities, num_relations)
    assert found == expected.split_fingerprints["training"]


def test_of_a_split_without_triples():
    empty = np.empty((0, 3), dtype=np.int64)
    expected = hashlib.sha256(b"negserve split 1\n" + bytes([5] + 7 * [0] + [2] + 15 * [0]))
    assert split_fingerprint(empty, 5, 2) == expected.hexdigest()


@pytest.mark.parametrize(
    ("row", "slot", "value"), [([5, 0, 0], "head", 5), ([0, -1, 0], "relation", -1)]
)
def test_ids_outside_the_id_space_are_refused(row: list[int], slot: str, value: int):
    with pytest.raises(InvalidRequestError, match=f"{slot} id {value} of row 1") as caught:
        split_fingerprint([[0, 1, 2], row], 5, 2)
    assert caught.value.metadata["row"] == "1"
    with pytest.raises(InvalidRequestError, match="shape"):
        split_fingerprint([0, 1, 2], 5, 2)
    with pytest.raises(InvalidRequestError, match="test"):
        graph_fingerprint({"test": "0" * 64})
