"""Publishing a graph, from the client's side: requests, progress, errors; without a server."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pykeen.datasets import Nations

from negserve import InvalidRequestError, PublishProgress
from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol import messages
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve.types.fingerprint import graph_fingerprint, split_fingerprint
from negserve.v1 import sampler_pb2 as pb
from tests.support.answers import described

TRIPLES = [[3, 0, 1], [0, 1, 2], [3, 0, 1]]


def factory(triples: Any = TRIPLES, num_entities: int = 9, num_relations: int = 4) -> Any:
    return SimpleNamespace(
        mapped_triples=torch.tensor(triples),
        num_entities=num_entities,
        num_relations=num_relations,
    )


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (factory(), (9, 4)),
        (np.array(TRIPLES), (4, 2)),
        ({"training": torch.tensor(TRIPLES)}, (4, 2)),
        ({"training": TRIPLES, "testing": [[8, 1, 1]]}, (9, 2)),
        ({"testing": factory([[0, 0, 0]], 9, 3), "training": factory(num_relations=6)}, (9, 6)),
        ({"training": factory(), "validation": np.array([[0, 0, 0]])}, (9, 4)),
    ],
)
def test_sizes_are_the_stated_or_the_needed_ones(given: Any, sizes: tuple[int, int]):
    graph = MappedGraph.of(given)
    assert (graph.num_entities, graph.num_relations) == sizes
    assert graph.splits["training"].tolist() == [[0, 1, 2], [3, 0, 1]]
    assert next(iter(graph.splits)) == "training"
    assert graph.split_fingerprints["training"] == split_fingerprint(TRIPLES, *sizes)
    assert graph.fingerprint == graph_fingerprint(graph.split_fingerprints)
    larger = MappedGraph.of(given, num_entities=100, num_relations=50)
    assert (larger.num_entities, larger.num_relations) == (100, 50)
    assert larger.fingerprint != graph.fingerprint


def test_pykeens_factories_are_taken():
    nations = Nations()
    graph = MappedGraph.of(nations.factory_dict)
    assert (graph.num_entities, graph.num_relations) == (14, 55)
    assert list(graph.splits) == ["training", "validation", "testing"]
    assert graph.num_triples == 1992
    alone = MappedGraph.of(nations.training)
    assert alone.split_fingerprints["training"] == graph.split_fingerprints["training"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "shape"),
        (np.empty((0, 3), dtype=int), "no training triples"),
        ({"testing": TRIPLES}, "give training"),
        ({"training": TRIPLES, "test": TRIPLES}, "test"),
        ({}, "give training"),
        ([[0, 0]], "shape"),
        ([[0.5, 0, 1]], "integer"),
        ([[0, -1, 1]], "relation id -1 of row 0"),
        (factory(num_entities=3), "head id 3 of row 0"),
        ("world", "str can't be published; give integer ids"),
        (5, "int can't be published"),
        (object(), "object can't be published"),
        (SimpleNamespace(triples=TRIPLES), "types.SimpleNamespace can't be published"),
        ({"training": TRIPLES, "validation": {1, 2}}, "validation: set can't be published"),
    ],
)
def test_objects_that_are_no_graph_are_refused(given: Any, told: str):
    with pytest.raises(InvalidRequestError, match=told):
        MappedGraph.of(given)


def test_the_dialogue_sends_all_triples_once_in_order():
    rows = np.arange(70_000)
    training = np.stack([rows % 300, rows // 300 % 5, rows // 1500], 1)
    graph = MappedGraph.of({"testing": training[:1], "training": training})
    dialogue = PublishDialogue("some", graph)
    announced = dialogue.announcement().announcement
    assert (announced.name, announced.fingerprint) == ("some", graph.fingerprint)
    assert [(s.split, s.num_triples) for s in announced.splits] == [
        (pb.SPLIT_TRAINING, 70_000),
        (pb.SPLIT_TESTING, 1),
    ]
    waiting = pb.PublishProgress(
        stage=pb.PublishProgress.STAGE_WAITING, num_received=5, num_triples=70_001
    )
    to_send, progress = dialogue.hear(pb.PublishResponse(progress=waiting))
    assert list(to_send) == []
    assert progress == PublishProgress("waiting", 5, 70_001)
    assert not dialogue.is_published

    to_send, progress = dialogue.hear(
        pb.PublishResponse(upload=pb.PublishUpload(max_triples_per_chunk=30_000))
    )
    assert progress is None
    chunks = [request.chunk for request in to_send]
    assert [(chunk.split, chunk.first_row) for chunk in chunks] == [
        (pb.SPLIT_TRAINING, 0),
        (pb.SPLIT_TRAINING, 30_000),
        (pb.SPLIT_TRAINING, 60_000),
        (pb.SPLIT_TESTING, 0),
    ]
    sent = []
    for chunk in chunks:
        columns = (chunk.triples.heads, chunk.triples.relations, chunk.triples.tails)
        assert chunk.crc32 == zlib.crc32(b"".join(column.data for column in columns))
        sent.append(np.stack([messages.decode_ids(column).astype(int) for column in columns], 1))
    assert (
        split_fingerprint(np.concatenate(sent[:3]), 300, 5)
        == (graph.split_fingerprints["training"])
    )
    known = described("some", 70_000)
    known.dataset.MergeFrom(
        pb.Dataset(
            fingerprint=graph.fingerprint,
            num_entities=graph.num_entities,
            splits=[pb.SplitSummary(split=pb.SPLIT_TESTING, num_triples=1)],
        )
    )
    for summary, name in zip(known.dataset.splits, ("training", "testing"), strict=True):
        summary.fingerprint = graph.split_fingerprints[name]
    published = pb.Published(dataset=known.dataset, limits=known.limits)
    dialogue.hear(pb.PublishResponse(published=published))
    assert dialogue.is_published


def test_only_uploads_that_begin_again_and_again_are_no_progress():
    dialogue = PublishDialogue("some", MappedGraph.of(TRIPLES))
    building = pb.PublishResponse(
        progress=pb.PublishProgress(
            stage=pb.PublishProgress.STAGE_BUILDING,
            num_received=2,
            num_triples=2,
        )
    )
    upload = pb.PublishResponse(upload=pb.PublishUpload(max_triples_per_chunk=1))
    for _ in range(100):  # streams that a proxy ends after a while, each
        dialogue.announcement()
        dialogue.hear(building)
        assert dialogue.is_getting_on
    for i in range(10):
        dialogue.announcement()
        dialogue.hear(upload)
        assert dialogue.is_getting_on == (i < 5)
