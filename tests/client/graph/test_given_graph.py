"""Graphs of other libraries are read; other objects are refused by their type."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from pykeen.datasets import Nations
from pykeen.triples import CoreTriplesFactory
from torchkge.data_structures import KnowledgeGraph

from negserve import InvalidRequestError
from negserve._graph.mapped_graph import MappedGraph
from negserve_server.graph import TriplesFactory, TypeConstraints
from tests.support.graphs import load

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # PyG itself uses torch.jit.script
    from torch_geometric.data import Data, HeteroData

TRIPLES = torch.tensor([[3, 0, 1], [0, 1, 2]])
SORTED = [[0, 1, 2], [3, 0, 1]]
ENTITIES = {"c": 2, "a": 0, "b": 1, "d": 3}
RELATIONS = {"likes": 0, "knows": 1}


def knowledge_graph(**labels: Any) -> KnowledgeGraph:
    heads, relations, tails = TRIPLES.T
    return KnowledgeGraph(
        kg={"heads": heads, "relations": relations, "tails": tails},
        **{"ent2ix": ENTITIES, "rel2ix": RELATIONS, **labels},
    )


def edges(**more: Any) -> Data:
    heads, relations, tails = TRIPLES.T
    return Data(
        edge_index=torch.stack([heads, tails]),
        edge_type=relations,
        num_nodes=9,
        **more,
    )


def test_torchkge():
    graph = MappedGraph.of(knowledge_graph())
    assert graph.splits["training"].tolist() == SORTED
    assert (graph.num_entities, graph.num_relations) == (4, 2)
    assert graph.labels is not None
    assert graph.labels.entities == ["a", "b", "c", "d"]
    assert graph.labels.relations == ["likes", "knows"]
    both = MappedGraph.of({"training": knowledge_graph(), "testing": knowledge_graph()})
    assert both.splits["testing"].tolist() == SORTED
    # Its labels may be numbers, which say nothing that the ids do not.
    numbered = knowledge_graph(ent2ix={i: i for i in range(4)}, rel2ix={i: i for i in range(2)})
    assert MappedGraph.of(numbered).labels is None


def test_torch_geometric():
    graph = MappedGraph.of(edges())
    assert graph.splits["training"].tolist() == SORTED
    assert (graph.num_entities, graph.num_relations) == (9, 2)
    masks = torch.tensor([[True, False], [False, True]])
    parted = edges(train_mask=masks[0], val_mask=masks[1])
    graph = MappedGraph.of(parted)
    assert {split: rows.tolist() for split, rows in graph.splits.items()} == {
        "training": SORTED[1:],
        "validation": SORTED[:1],
    }
    with pytest.raises(
        InvalidRequestError, match="testing: Data has edges of the splits training, val"
    ):
        MappedGraph.of({"training": edges(), "testing": parted})
    for wrong, told in (
        (
            Data(edge_index=torch.zeros((2, 3), dtype=torch.long)),
            "without edge_index and edge_type",
        ),
        (edges(train_edge_index=torch.zeros((2, 1))), "train_edge_index"),
        (HeteroData(), r"HeteroData can't be published; .*to_homogeneous\(\)"),
    ):
        with pytest.raises(InvalidRequestError, match=told):
            MappedGraph.of(wrong)


def test_pykeen():
    nations = Nations()
    whole = MappedGraph.of(nations)
    assert whole.fingerprint == MappedGraph.of(nations.factory_dict).fingerprint
    assert list(whole.splits) == ["training", "validation", "testing"]
    assert whole.labels is not None
    assert list(whole.labels.entities) == list(nations.training.entity_to_id)
    # Its mapped triples have no inverse ones, so neither has the id space.
    inverse = MappedGraph.of(Nations(create_inverse_triples=True))
    assert inverse.fingerprint == whole.fingerprint
    assert inverse.labels is not None
    core = MappedGraph.of(CoreTriplesFactory(TRIPLES, num_entities=4, num_relations=2))
    assert core.labels is None


def test_the_servers_own_factory_has_all_of_it():
    loaded = load("world")
    graph = MappedGraph.of(loaded)
    assert graph.fingerprint == loaded.fingerprint
    assert list(graph.splits) == ["training", "validation", "testing"]
    assert graph.labels is not None
    assert graph.labels.num_bytes == sum(
        len(label.encode()) for label in [*loaded.entity_to_id, *loaded.relation_to_id]
    )
    training = MappedGraph.of({"training": loaded})
    assert list(training.splits) == ["training"]
    assert training.type_constraints is not None


@pytest.mark.parametrize("heads", [[], [(1, 0)]])
def test_type_constraints_have_the_fingerprint_of_files(heads: list[tuple[int, int]]):
    tails = [(1, 2), (0, 1), (1, 2)]
    graph = MappedGraph.of(TRIPLES, type_constraints={"head": heads, "tail": torch.tensor(tails)})
    loaded = TriplesFactory(
        {"training": TRIPLES.numpy()}, type_constraints=TypeConstraints(heads, tails)
    )
    assert graph.fingerprint == loaded.fingerprint
    assert graph.fingerprint != MappedGraph.of(TRIPLES).fingerprint


def named(**labels: Any) -> Any:
    return SimpleNamespace(mapped_triples=TRIPLES, num_entities=4, num_relations=2, **labels)


OTHERS = {"a": 0, "b": 1, "d": 2, "c": 3}


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        (pd.DataFrame(SORTED), {}, r"DataFrame can't be published; .*to_numpy\(\)"),
        (pl.DataFrame(SORTED), {}, r"DataFrame can't be published; .*to_numpy\(\)"),
        ({"training": pd.DataFrame(SORTED)}, {}, "training: pandas"),
        (TRIPLES, {"type_constraints": {"head": [(2, 0)]}}, "relation id 2 of row 0 of the type"),
        (TRIPLES, {"type_constraints": {"tail": [(0, 1), (1, 9)]}}, "entity id 9 of row 1"),
        (TRIPLES, {"type_constraints": {"head": [(0, 1, 2)]}}, "shape"),
        (TRIPLES, {"type_constraints": {"head": [(0.5, 1)]}}, "float64"),
        (TRIPLES, {"type_constraints": {}}, "no pair"),
        (TRIPLES, {"type_constraints": [(0, 1)]}, "list; give a mapping from head"),
        (TRIPLES, {"type_constraints": {"relation": [(0, 1)]}}, "give a mapping from head"),
        (TRIPLES, {"entity_to_id": ENTITIES}, "relation_to_id has 0 labels for 2 ids"),
        (named(entity_to_id=ENTITIES, relation_to_id={"likes": 0}), {}, "has 1 labels for 2 ids"),
        (named(entity_to_id=ENTITIES, relation_to_id=RELATIONS), {"num_entities": 5}, "has 4 labe"),
        (named(entity_to_id={**ENTITIES, "c": 7}, relation_to_id=RELATIONS), {}, "each id from 0"),
        (named(entity_to_id=ENTITIES, relation_to_id={"a\nb": 0, "c": 1}), {}, r"'a\\nb' can't"),
        (named(entity_to_id=ENTITIES, relation_to_id={"": 0, "c": 1}), {}, "label ''"),
        (named(entity_to_id=ENTITIES, relation_to_id={"\ud800": 0, "c": 1}), {}, "UTF-8"),
        (named(entity_to_id=ENTITIES, relation_to_id={4097 * "x": 0, "c": 1}), {}, "4096 bytes"),
        (named(entity_to_id=ENTITIES, relation_to_id={5: 0, "c": 1}), {}, "label '5'"),
        (
            {
                "training": named(entity_to_id=ENTITIES, relation_to_id=RELATIONS),
                "testing": named(entity_to_id=OTHERS, relation_to_id=RELATIONS),
            },
            {},
            "entity_to_id of testing differs from that of the other splits",
        ),
    ],
)
def test_objects_that_are_no_graph_are_refused(given: Any, options: Any, told: str):
    with pytest.raises(InvalidRequestError, match=told):
        MappedGraph.of(given, **options)


def test_labels_are_left_out_by_publishing_the_triples_alone():
    graph = MappedGraph.of(
        {"training": named(entity_to_id={"a": 9}).mapped_triples}, num_entities=4, num_relations=2
    )
    assert graph.labels is None


def test_arrays_of_any_library_are_taken():
    class Array:  # as of JAX or TensorFlow
        shape, dtype = (2, 3), np.dtype(np.int32)

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return np.asarray(TRIPLES, dtype=dtype)

    assert MappedGraph.of(Array()).splits["training"].tolist() == SORTED


def test_no_library_is_imported_for_it():
    program = (
        "import sys; from negserve._graph.mapped_graph import MappedGraph; "
        "MappedGraph.of([[0, 0, 1]]); "
        "print({'torch', 'torchkge', 'torch_geometric', 'pykeen', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
