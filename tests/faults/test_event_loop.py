"""The costliest legal requests harm nobody else: no stream waits for them."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from negserve import EpochConfig, SamplerConfig
from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol import messages
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve.v1 import sampler_pb2 as pb
from tests.support.children.large_graph_server import HELD, NUM_RELATIONS
from tests.support.graphs import load
from tests.support.server_process import server_process

SERVICE = "/negserve.v1.SamplerService/"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
#: 20 times what it takes on an idle machine, a fifth to a half of what it was on the loop.
LONGEST_WAIT = 1.0
#: Of one message.
MOST_BYTES = 16 * 2**20 - 1000
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def target(log: Path) -> Iterator[str]:
    module = "tests.support.children.large_graph_server"
    with server_process("--allow-publish", module=module, log=log) as server:
        yield server.target


class Trainer:
    """A stream that repeats a small request; nothing is decoded."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._stop = threading.Event()
        self.longest = 0.0
        self.num_answers = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Trainer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _requests(self) -> Iterator[bytes]:
        config = messages.encode_config(SamplerConfig(num_negs_per_pos=4))
        yield pb.SampleRequest(
            configuration=pb.SampleConfiguration(dataset="world", sampler=config)
        ).SerializeToString()
        column = pb.Ids(data=bytes(64), width=1)
        triples = pb.Triples(heads=column, relations=column, tails=column)
        request = pb.SampleRequest(positives=pb.Positives(triples=triples)).SerializeToString()
        while not self._stop.is_set():
            self._asked = time.monotonic()
            yield request
            self._answered.wait(60)
            self._answered.clear()

    def _run(self) -> None:
        self._answered = threading.Event()
        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            try:
                answers = channel.stream_stream(SERVICE + "Sample")(self._requests())
                next(answers)
                for _ in answers:
                    self.longest = max(self.longest, time.monotonic() - self._asked)
                    self.num_answers += 1
                    time.sleep(0.002)
                    self._answered.set()
            except BaseException as error:
                self.error = error


def _ids(number: int) -> pb.Ids:
    # Not in order, and each once.
    ids = np.random.default_rng(0).permutation(NUM_RELATIONS)[:number]
    return pb.Ids(data=ids.astype("<u4").tobytes(), width=4)


def epoch_of_many_relations() -> bytes:
    request = messages.encode_epoch_request("world", "", SamplerConfig(), EpochConfig(), 0, 0)
    request.relations.CopyFrom(_ids((16 * 2**20 - 1000) // 4))
    return request.SerializeToString()


def of_the_graph(message_class: Any) -> bytes:
    return message_class(dataset="world").SerializeToString()  # type: ignore[no-any-return]


def large_batch() -> bytes:
    config = SamplerConfig(num_negs_per_pos=2, filter_splits=("training",))
    return pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            dataset="world", sampler=messages.encode_config(config)
        )
    ).SerializeToString()


def large_positives() -> bytes:
    ids = pb.Ids(data=np.zeros(2**18, dtype="<u8").tobytes(), width=8)
    triples = pb.Triples(heads=ids, relations=ids, tails=ids)
    return pb.SampleRequest(positives=pb.Positives(triples=triples)).SerializeToString()


def encode_field(number: int, data: bytes) -> bytes:
    """Encode a field of bytes, of a message or of packed numbers."""
    length, size = len(data), b""
    while length > 127:
        size += bytes((length & 127 | 128,))
        length >>= 7
    return b"%c%b%c%b" % (number << 3 | 2, size, length, data)


def configuration(field: bytes) -> bytes:
    """Make a request with a field of its sampler, which Python encodes slowly if it is long."""
    config = pb.SamplerConfig(num_negs_per_pos=1, kind=pb.SAMPLER_KIND_BASIC)
    sampler = encode_field(
        pb.SampleConfiguration.SAMPLER_FIELD_NUMBER, config.SerializeToString() + field
    )
    return encode_field(
        pb.SampleRequest.CONFIGURATION_FIELD_NUMBER,
        pb.SampleConfiguration(dataset="world").SerializeToString() + sampler,
    )


def most_candidates() -> bytes:
    """Request as many candidates as a message holds, most of them repeated."""
    ids = pb.Ids(data=bytes(MOST_BYTES), width=2).SerializeToString()
    return configuration(encode_field(pb.SamplerConfig.CANDIDATES_FIELD_NUMBER, ids))


def most_parts() -> bytes:
    """Request a mixture of eight million empty parts."""
    part = encode_field(pb.SamplerConfig.MIXTURE_FIELD_NUMBER, b"")
    return configuration(part * (MOST_BYTES // 2))


def most_splits() -> bytes:
    splits = bytes((pb.SPLIT_TRAINING,)) * MOST_BYTES
    return configuration(encode_field(pb.SamplerConfig.FILTER_SPLITS_FIELD_NUMBER, splits))


def questions() -> list[bytes]:
    first = pb.ContainsRequest(
        configuration=pb.ContainsConfiguration(dataset="world", splits=[pb.SPLIT_TRAINING])
    )
    ids = pb.Ids(data=np.zeros(2**18, dtype="<u8").tobytes(), width=8)
    triples = pb.ContainsRequest(triples=pb.Triples(heads=ids, relations=ids, tails=ids))
    return [first.SerializeToString(), *[triples.SerializeToString()] * 8]


def pairs() -> list[bytes]:
    """Ask for relations, whose direction is built first, and for one with many values."""
    first = pb.KnownRequest(
        configuration=pb.KnownConfiguration(
            dataset="world", splits=[pb.SPLIT_TRAINING], slot=pb.SLOT_RELATION
        )
    )
    ids = pb.Ids(data=np.zeros(2**18, dtype="<u8").tobytes(), width=8)
    asked = pb.KnownRequest(pairs=pb.Pairs(first=ids, second=ids))
    return [first.SerializeToString(), *[asked.SerializeToString()] * 8]


def hubs() -> list[bytes]:
    """Ask 2^14 times for a pair with 162 values: 5 MB."""
    graph = load("world")
    first = pb.KnownRequest(
        configuration=pb.KnownConfiguration(
            dataset="world", splits=[pb.SPLIT_TRAINING], slot=pb.SLOT_HEAD
        )
    )
    columns = graph.relation_to_id["member_of"], graph.entity_to_id["United Nations"]
    relations, tails = (
        pb.Ids(data=np.full(2**14, column, dtype="<u4").tobytes(), width=4) for column in columns
    )
    asked = pb.KnownRequest(pairs=pb.Pairs(first=relations, second=tails))
    return [first.SerializeToString(), *[asked.SerializeToString()] * 4]


def graph() -> list[bytes]:
    """Publish a graph of large chunks, with many type constraints and labels."""
    rng = np.random.default_rng(0)
    num_entities, num_relations = 2**19, 16
    ids = num_entities, num_relations, num_entities
    triples = np.stack([rng.integers(0, each, 2**19) for each in ids], 1)
    pairs = np.stack([rng.integers(0, each, 2**19) for each in ids[1:]], 1)
    published = MappedGraph.of(
        triples,
        num_entities=num_entities,
        num_relations=num_relations,
        type_constraints={"head": pairs},
        entity_to_id={str(i): i for i in range(num_entities)},
        relation_to_id={str(i): i for i in range(num_relations)},
    )
    dialogue = PublishDialogue("large", published)
    requests = [dialogue.announcement()]
    upload = pb.PublishResponse(upload=pb.PublishUpload(max_triples_per_chunk=2**18))
    coming, _ = dialogue.hear(upload)
    progress = pb.PublishProgress(
        stage=pb.PublishProgress.STAGE_UPLOADING, num_triples=published.num_triples
    )
    while batch := list(coming):
        requests += batch
        for _ in batch:
            coming = chain(coming, dialogue.hear(pb.PublishResponse(progress=progress))[0])
    return [request.SerializeToString() for request in requests]


def most_labels() -> list[bytes]:
    """Publish a graph whose labels are all in one message, each of one byte."""
    num_labels = MOST_BYTES // 3
    announcement = pb.PublishAnnouncement(
        name="short",
        fingerprint="0" * 64,
        num_entities=num_labels,
        num_relations=1,
        splits=[pb.AnnouncedSplit(split=pb.SPLIT_TRAINING, num_triples=1)],
        labels=pb.AnnouncedLabels(num_bytes=num_labels + 1),
    )
    ids = pb.Ids(data=b"\0", width=1)
    chunk = pb.PublishChunk(
        split=pb.SPLIT_TRAINING,
        triples=pb.Triples(heads=ids, relations=ids, tails=ids),
        crc32=zlib.crc32(bytes(3)),
    )
    kind = pb.GetVocabularyResponse.KIND_ENTITY
    labels = pb.PublishLabels(
        kind=kind, labels=["x"] * num_labels, crc32=zlib.crc32(b"x\0" * num_labels)
    )
    requests = (
        pb.PublishRequest(announcement=announcement),
        pb.PublishRequest(chunk=chunk),
        pb.PublishRequest(labels=labels),
    )
    return [request.SerializeToString() for request in requests]


CALLS: dict[str, tuple[int, str, Callable[[], list[bytes]]]] = {
    "statistics": (
        1, "GetRelationStatistics", lambda: [of_the_graph(pb.GetRelationStatisticsRequest)],
    ),
    "epochs of many relations": (2, "SampleEpoch", lambda: [epoch_of_many_relations()]),
    "vocabulary": (1, "GetVocabulary", lambda: [of_the_graph(pb.GetVocabularyRequest)]),
    "positives": (2, "Sample", lambda: [large_batch(), *[large_positives()] * 8]),
    "candidates": (2, "Sample", lambda: [most_candidates()]),
    "parts of a mixture": (2, "Sample", lambda: [most_parts()]),
    "splits": (2, "Sample", lambda: [most_splits()]),
    "questions": (2, "Contains", questions),
    "pairs": (2, "Known", pairs),
    "pairs with many values": (2, "Known", hubs),
    "graph": (1, "Publish", graph),
    "labels": (1, "Publish", most_labels),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_costly_request_stalls_nobody_and_ends_no_stream_of_others(
    target: str, log: Path, name: str
):
    number, method, requests = CALLS[name]
    sent = requests()
    before = log.read_text()

    def call(_: int) -> int:
        with grpc.insecure_channel(target, options=OPTIONS) as channel:
            answers = channel.stream_stream(SERVICE + method)(iter(sent), timeout=120)
            try:
                # The largest answer is of a graph's size; bounded pieces do, here.
                sizes = [len(answer) for answer in answers]
            except grpc.RpcError as error:
                assert error.code() in REFUSALS, error
                return 0
            assert max(sizes) < 2**22
            return len(sizes)

    with Trainer(target) as trainer, ThreadPoolExecutor(number) as threads:
        while trainer.num_answers < 20:
            assert trainer.error is None, trainer.error
            time.sleep(0.01)
        trainer.longest = 0.0
        list(threads.map(call, range(number)))
    assert trainer.error is None, trainer.error
    assert trainer.longest < LONGEST_WAIT
    assert HELD not in log.read_text()[len(before) :]
