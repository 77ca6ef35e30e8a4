"""Requests are sent ahead of their answers, up to the server's limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol.pipelines import RequestPipeline, SamplePipeline
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve._protocol.sampler_answers import BatchReader
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset, Limits
from negserve.v1 import sampler_pb2 as pb


class Echo(RequestPipeline[pb.Ids, pb.Ids, pb.Ids]):
    """Decodes answers that equal the requests."""

    def _keep(self, asked: pb.Ids, response: pb.Ids) -> bool:
        assert asked == response
        return True

    def _num_rows(self, asked: pb.Ids) -> int:
        return len(asked.data)


def most_unanswered(sizes: list[int], limits: Limits) -> tuple[int, int]:
    """Answer one request after another; return the most messages, and bytes, without an answer."""
    requests = [pb.Ids(data=bytes(size)) for size in sizes]
    pipeline = Echo([(request, request) for request in requests], limits)
    sent = pipeline.start()
    most = (0, 0)
    for answered in range(len(requests)):
        unanswered = sent[answered:]
        most = (
            max(most[0], len(unanswered)),
            max(most[1], sum(each.ByteSize() for each in unanswered)),
        )
        sent += pipeline.take(sent[answered])
    assert not pipeline.unanswered
    assert sent == requests
    return most


@pytest.mark.parametrize(
    ("most_messages", "most_bytes", "expected"),
    [(64, 2**24, 4), (2, 2**24, 2), (1, 2**24, 1), (64, 2500, 2), (64, 1, 1)],
)
def test_a_pipeline_keeps_to_the_servers_limits(most_messages: int, most_bytes: int, expected: int):
    limits = Limits(1, 1, 1, most_messages, most_bytes)
    messages, _ = most_unanswered([1000] * 20, limits)
    assert messages == expected


def test_a_single_message_may_be_larger():
    messages, num_bytes = most_unanswered([10, 5000, 10, 10], Limits(1, 1, 1, 64, 100))
    assert num_bytes < 5100
    assert messages == 2
    assert most_unanswered([], Limits(1, 1, 1, 64, 100)) == (0, 0)


def test_an_upload_keeps_16_chunks_unanswered():
    triples = [[0, 0, tail] for tail in range(100)]
    graph = MappedGraph.of(triples, num_entities=None, num_relations=None)
    dialogue = PublishDialogue("mine", graph)
    dialogue.announcement()

    def hear(**message: Any) -> int:
        sent, _ = dialogue.hear(pb.PublishResponse(**message))
        return len(list(sent))

    assert hear(upload=pb.PublishUpload(max_triples_per_chunk=1)) == 16
    for received in range(1, 101):
        stage = pb.PublishProgress.STAGE_UPLOADING
        progress = pb.PublishProgress(stage=stage, num_received=received, num_triples=100)
        assert hear(progress=progress) == (1 if received <= 84 else 0)


@pytest.mark.parametrize(
    ("options", "positions", "ahead", "expected"),
    [
        ({}, [0, 10, 20, 30], 4, [(0, 20), (20, 20)]),
        ({}, [0, 10, 20, 30], 2, [(0, 10), (10, 10), (20, 10), (30, 10)]),
        ({}, [0, 10, 20, 30], 64, [(0, 30), (30, 10)]),
        ({}, [0, 50, 60, 10], 4, [(0, 10), (50, 20), (10, 10)]),
        # The counts of saturated positives of such answers could not be divided.
        ({"filter_splits": ()}, [0, 10], 4, [(0, 10), (10, 10)]),
        ({"filter_mode": "mask"}, [0, 10], 4, [(0, 10), (10, 10)]),
        ({"chunk_size": 5, "filter_mode": "mask"}, [0, 10], 4, [(0, 10), (10, 10)]),
    ],
)
def test_calls_at_consecutive_positions_share_requests(
    options: dict[str, Any], positions: list[int], ahead: int, expected: list[tuple[int, int]]
):
    config = SamplerConfig(**{"num_negs_per_pos": 3, "filter_splits": ("training",), **options})
    dataset = Dataset("x", "", 100, 100, 1, False, Limits(3, 90, 30, 64, 2**24))
    pipeline = SamplePipeline(dataset, BatchReader(dataset, config), 30, ahead)
    for position in positions:
        pipeline.add(np.ones((10, 3), dtype=np.int64), position)
    sent = [request.positives for request in pipeline.resume("a stream")]
    assert [(each.position, len(each.triples.heads.data)) for each in sent] == expected
    assert pipeline.num_calls == len(positions)
