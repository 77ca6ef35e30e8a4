"""Candidate sets of others, checked against a graph."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest
import torch

from negserve import InvalidRequestError
from negserve.evaluation import candidates_from_ogb, negatives_from_triples
from negserve_server.graph import TriplesFactory
from tests.support.graphs import graph_path, load

GRAPH = TriplesFactory(
    {"training": [[0, 0, 1], [0, 0, 2]], "testing": [[0, 0, 3], [4, 1, 5]]},
    num_entities=8,
    num_relations=2,
)
#: As ``get_edge_split()["test"]`` of OGB's ogbl-wikikg2 gives it.
SPLIT: dict[str, Any] = {
    "head": torch.tensor([0, 4]),
    "relation": torch.tensor([0, 1]),
    "tail": torch.tensor([3, 5]),
    "head_neg": torch.tensor([[1, 2, 0], [5, 6, 7]]),
    "tail_neg": torch.tensor([[1, 2, 4], [5, 5, 0]]),
}


def test_candidates_of_ogb_are_counted_and_masked():
    given = candidates_from_ogb(GRAPH, SPLIT)
    assert given.table.positives.tolist() == [[0, 0, 3], [4, 1, 5]]
    assert given.table.masks["head"].tolist() == [[True, True, False], [True, True, True]]
    assert given.table.masks["tail"].tolist() == [[False, False, True], [False, False, True]]
    assert dict(given.num_known) == {"head": 0, "tail": 2}
    assert dict(given.num_targets) == {"head": 1, "tail": 2}
    assert "tail: 6 candidates, 2 known in training, testing and 2 equal" in str(given)
    assert given.table.candidates["tail"].tolist() == SPLIT["tail_neg"].tolist()


def test_the_splits_that_are_known_are_chosen():
    assert candidates_from_ogb(GRAPH, SPLIT, ("testing",)).num_known["tail"] == 0
    # The true answers are no triples of this split, but no candidates of their own queries either.
    given = candidates_from_ogb(GRAPH, SPLIT, ("training",))
    assert given.table.masks["tail"].tolist() == [[False, False, True], [False, False, True]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tail_neg": torch.tensor([[1, 2, 4], [5, 8, 0]])}, "tail_neg id 8 of row 1"),
        ({"tail_neg": torch.tensor([[1, 2, -1], [5, 8, 0]])}, "tail_neg id -1 of row 0"),
        ({"relation": torch.tensor([0, 2])}, "relation id 2 of row 1"),
        ({"head_neg": torch.tensor([[1], [1], [1]])}, "3 rows for 2 triples"),
        ({"head_neg": torch.tensor([1, 2])}, r"shape \(m, n\)"),
        ({"head_neg": torch.tensor([[0.5], [1.0]])}, "integer ids"),
        ({"head": torch.tensor([0])}, "one of each"),
        ({"tail": torch.tensor([[3], [5]])}, r"tail is int64 of shape \(2, 1\)"),
        ({"tail": torch.tensor([3, 8])}, "tail id 8 of row 1"),
        ({"tail": torch.tensor([3.0, 5.0])}, "tail is float32"),
        ({"tail_neg": torch.ones((2, 3), dtype=torch.bool)}, "tail_neg is bool"),
        (
            {"tail_neg": np.array([[2**63], [1]], dtype=np.uint64)},
            "tail_neg id 922",
        ),
        ({"tail_neg": [[1, 2], [3]]}, "tail_neg"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], text: str):
    with pytest.raises(InvalidRequestError, match=text):
        candidates_from_ogb(GRAPH, {**SPLIT, **change})


def test_a_split_without_candidates_or_without_triples_is_taken():
    empty = {name: array[:0] for name, array in SPLIT.items()}
    assert candidates_from_ogb(GRAPH, empty).num_known == {"head": 0, "tail": 0}
    none = candidates_from_ogb(GRAPH, {**SPLIT, "tail_neg": SPLIT["tail_neg"][:, :0]})
    assert none.table.masks["tail"].shape == (2, 0)
    one_sided = {name: array for name, array in SPLIT.items() if name != "head_neg"}
    assert list(candidates_from_ogb(GRAPH, one_sided).table.candidates) == ["tail"]


@pytest.mark.parametrize("splits", [("test",), (), "testing"])
def test_splits_that_the_graph_has_not_are_refused(splits: Any):
    for take in (
        lambda: candidates_from_ogb(GRAPH, SPLIT, splits),
        lambda: negatives_from_triples(GRAPH, [[0, 0, 4]], splits),
    ):
        with pytest.raises(InvalidRequestError, match="splits"):
            take()


def test_missing_arrays_are_named():
    with pytest.raises(InvalidRequestError, match="lack relation"):
        candidates_from_ogb(GRAPH, {k: v for k, v in SPLIT.items() if k != "relation"})
    with pytest.raises(InvalidRequestError, match="lack head_neg and tail_neg"):
        candidates_from_ogb(GRAPH, {k: v for k, v in SPLIT.items() if "neg" not in k})


def test_negatives_are_counted_and_masked():
    given = negatives_from_triples(GRAPH, [[0, 0, 1], [0, 0, 4], [0, 0, 3]])
    assert given.mask.tolist() == [False, True, False]
    assert given.num_known == 2
    with pytest.raises(InvalidRequestError, match="tail id 8 of row 0"):
        negatives_from_triples(GRAPH, [[0, 0, 8]])


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_negatives_of_codex_are_none_of_its_triples(split: str):
    path = graph_path("codex-s") / f"{split}_negatives.txt.gz"
    graph = load("codex-s")
    with gzip.open(path, "rt") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    entities, relations = graph.entity_to_id, graph.relation_to_id
    negatives = [[entities[h], relations[r], entities[t]] for h, r, t in rows]
    given = negatives_from_triples(graph, negatives)
    assert len(given.mask) == len(graph.splits["validation" if split == "valid" else "testing"])
    assert given.num_known == 0
    assert np.array_equal(given.triples, negatives)
