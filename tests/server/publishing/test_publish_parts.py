"""Refused type constraints and labels: the right status and reason, and nothing remains."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from negserve import Client
from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, TIMEOUT, ids, refusal
from tests.support.server_process import ServerProcess, server_process

TRIPLES = np.array([(0, 0, 1), (1, 1, 2), (2, 0, 0)])
HEADS, TAILS = [(0, 0), (0, 2), (1, 1)], [(0, 0), (0, 1), (1, 2)]
ENTITIES = {"Ana": 0, "Bór": 1, "C": 2}
RELATIONS = {"likes": 0, "knows": 1}
GRAPH = MappedGraph.of(
    TRIPLES,
    type_constraints={"head": HEADS, "tail": TAILS},
    entity_to_id=ENTITIES,
    relation_to_id=RELATIONS,
)
LABEL_BYTES = 18


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def taking(folder: Path) -> Iterator[ServerProcess]:
    options = ("--allow-publish", "--publish-dir", str(folder), "--max-publish-triples", "100")
    with server_process(*options, "--threads", "1") as server:
        yield server


@pytest.fixture(scope="module")
def stub(taking: ServerProcess) -> Iterator[SamplerServiceStub]:
    with grpc.insecure_channel(taking.target) as channel:
        yield SamplerServiceStub(channel)


def announcement(**changes: Any) -> pb.PublishRequest:
    """Announce the graph, changed; None leaves out a part."""
    request = PublishDialogue("toy", GRAPH).announcement()
    for field, value in changes.items():
        request.announcement.ClearField(field)  # type: ignore[arg-type]
        if value is not None:
            getattr(request.announcement, field).CopyFrom(value)
    return request


def uploaded() -> list[pb.PublishRequest]:
    """Return the messages after the announcement: triples, heads, tails, entities, relations."""
    upload = pb.PublishUpload(max_triples_per_chunk=2**16)
    requests, _ = PublishDialogue("toy", GRAPH).hear(pb.PublishResponse(upload=upload))
    return list(requests)


def pairs(
    rows: list[tuple[int, int]], slot: Any = pb.SLOT_HEAD, first_row: int = 0, **changes: Any
) -> pb.PublishRequest:
    relations, entities = (ids(*column, width=1) for column in np.array(rows).reshape(-1, 2).T)
    message = pb.PublishTypeConstraints(
        slot=slot, first_row=first_row, relations=relations, entities=entities
    )
    message.crc32 = zlib.crc32(relations.data + entities.data)
    for field, value in changes.items():
        setattr(message, field, value)
    return pb.PublishRequest(type_constraints=message)


def labels(
    *texts: str, kind: Any = pb.GetVocabularyResponse.KIND_ENTITY, first_id: int = 0, **changes: Any
) -> pb.PublishRequest:
    message = pb.PublishLabels(kind=kind, first_id=first_id, labels=texts)
    message.crc32 = zlib.crc32(b"".join(text.encode() + b"\0" for text in texts))
    for field, value in changes.items():
        setattr(message, field, value)
    return pb.PublishRequest(labels=message)


def relation_labels(*texts: str, **changes: Any) -> pb.PublishRequest:
    return labels(*texts, kind=pb.GetVocabularyResponse.KIND_RELATION, **changes)


def types(num_heads: int, num_tails: int) -> pb.AnnouncedTypeConstraints:
    return pb.AnnouncedTypeConstraints(num_heads=num_heads, num_tails=num_tails)


def label_bytes(num_bytes: int) -> pb.AnnouncedLabels:
    return pb.AnnouncedLabels(num_bytes=num_bytes)


CHUNK, ALL_HEADS, ALL_TAILS, ALL_ENTITIES, ALL_RELATIONS = uploaded()
THREE = [CHUNK, ALL_HEADS, ALL_TAILS]

ANNOUNCEMENTS = {
    "no pairs": ({"type_constraints": types(0, 0)}, "type_constraints"),
    "more pairs than there are": ({"type_constraints": types(7, 0)}, "type_constraints"),
    "very many pairs": ({"type_constraints": types(1, 2**63)}, "type_constraints"),
    "labels without bytes": ({"labels": label_bytes(0)}, "labels"),
    "too few bytes for the labels": ({"labels": label_bytes(4)}, "labels"),
    "too many bytes for the labels": ({"labels": label_bytes(5 * 4096 + 1)}, "labels"),
    "very many bytes": ({"labels": label_bytes(2**63)}, "labels"),
}

OUT_OF_ORDER = "STREAM_OUT_OF_ORDER"
REFUSED: dict[str, tuple[list[pb.PublishRequest], str, dict[str, str]]] = {
    "type constraints before the triples": (
        [ALL_HEADS],
        OUT_OF_ORDER,
        {"value": "type_constraints"},
    ),
    "triples again": ([CHUNK, CHUNK], OUT_OF_ORDER, {"value": "chunk"}),
    "labels before the type constraints": (
        [CHUNK, ALL_ENTITIES],
        OUT_OF_ORDER,
        {"value": "labels"},
    ),
    "the end before the type constraints": ([CHUNK], OUT_OF_ORDER, {"value": "nothing"}),
    "the end amid the labels": ([*THREE, ALL_ENTITIES], OUT_OF_ORDER, {"value": "nothing"}),
    "an empty message of type constraints": ([CHUNK, pairs([])], OUT_OF_ORDER, {}),
    "tails first": ([CHUNK, ALL_TAILS], OUT_OF_ORDER, {}),
    "a gap in the pairs": (
        [CHUNK, pairs(HEADS[:1]), pairs(HEADS[2:], first_row=2)],
        OUT_OF_ORDER,
        {},
    ),
    "too many pairs": ([CHUNK, pairs([*HEADS, (1, 2)])], OUT_OF_ORDER, {}),
    "unsorted pairs": (
        [CHUNK, pairs([HEADS[0], HEADS[2], HEADS[1]])],
        OUT_OF_ORDER,
        {"value": "the pair (0, 2) of heads"},
    ),
    "unsorted pairs of two messages": (
        [CHUNK, pairs(HEADS[1:]), pairs(HEADS[:1], first_row=2)],
        OUT_OF_ORDER,
        {"value": "the pair (0, 0) of heads"},
    ),
    "a pair twice": ([CHUNK, pairs([HEADS[0], HEADS[0], HEADS[1]])], OUT_OF_ORDER, {}),
    "a relation outside": (
        [CHUNK, pairs([HEADS[0], (2, 0)])],
        "RELATION_ID_OUT_OF_RANGE",
        {"row": "1", "slot": "relation", "value": "2", "limit": "2"},
    ),
    "an entity outside": (
        [CHUNK, ALL_HEADS, pairs([(0, 3)], pb.SLOT_TAIL)],
        "ENTITY_ID_OUT_OF_RANGE",
        {"row": "0", "slot": "tail", "value": "3", "limit": "3"},
    ),
    "pairs of relations": (
        [CHUNK, pairs(HEADS, pb.SLOT_RELATION)],
        "INVALID_CONFIGURATION",
        {"field": "slot"},
    ),
    "pairs without slot": ([CHUNK, pairs(HEADS, 0)], "INVALID_CONFIGURATION", {"field": "slot"}),
    "pairs with a bit that flipped": ([CHUNK, pairs(HEADS, crc32=5)], "CHECKSUM_MISMATCH", {}),
    "columns of unequal length": (
        [CHUNK, pairs(HEADS, crc32=zlib.crc32(b"\0\0"))],
        "CHECKSUM_MISMATCH",
        {},
    ),
    "other type constraints": (
        [CHUNK, pairs([(0, 0), (0, 1), (1, 1)]), ALL_TAILS, ALL_ENTITIES, ALL_RELATIONS],
        "FINGERPRINT_MISMATCH",
        {"value": GRAPH.fingerprint},
    ),
    "relation labels first": ([*THREE, ALL_RELATIONS], OUT_OF_ORDER, {}),
    "an empty message of labels": ([*THREE, labels()], OUT_OF_ORDER, {}),
    "a gap in the labels": (
        [*THREE, labels("Ana"), labels("C", first_id=2)],
        OUT_OF_ORDER,
        {},
    ),
    "too many labels": ([*THREE, labels("a", "b", "c", "d")], OUT_OF_ORDER, {}),
    "more bytes than announced": (
        [*THREE, labels(19 * "x")],
        OUT_OF_ORDER,
        {"value": "19 bytes of labels"},
    ),
    "fewer bytes than announced": (
        [*THREE, labels("a", "b", "c"), relation_labels("d", "e")],
        OUT_OF_ORDER,
        {"value": "5 bytes of labels"},
    ),
    "no such kind of labels": (
        [*THREE, labels("a", kind=9)],
        "INVALID_CONFIGURATION",
        {"field": "kind"},
    ),
    "labels with a bit that flipped": ([*THREE, labels("a", crc32=5)], "CHECKSUM_MISMATCH", {}),
    "a label twice": (
        [*THREE, labels("Ana", "C"), labels("Ana", first_id=2), relation_labels("a", "bcdefghijk")],
        "INVALID_CONFIGURATION",
        {"field": "labels", "value": "Ana"},
    ),
    "an empty label": ([*THREE, labels("a", "")], "INVALID_CONFIGURATION", {"value": ""}),
    "a NUL in a label": ([*THREE, labels("a\0b")], "INVALID_CONFIGURATION", {"value": "a\\u0000b"}),
    "a tab in a label": ([*THREE, labels("a\tb")], "INVALID_CONFIGURATION", {"value": "a\\u0009b"}),
    "a long label": ([*THREE, labels(5000 * "x")], "INVALID_CONFIGURATION", {"value": 100 * "x"}),
}
STATUS = {
    OUT_OF_ORDER: CODE.FAILED_PRECONDITION,
    "INVALID_CONFIGURATION": CODE.INVALID_ARGUMENT,
    "CHECKSUM_MISMATCH": CODE.DATA_LOSS,
    "ENTITY_ID_OUT_OF_RANGE": CODE.INVALID_ARGUMENT,
    "RELATION_ID_OUT_OF_RANGE": CODE.INVALID_ARGUMENT,
    "FINGERPRINT_MISMATCH": CODE.FAILED_PRECONDITION,
}


def assert_nothing_is_left(taking: ServerProcess, folder: Path) -> None:
    with Client(taking.target) as client:
        assert client.list_datasets() == ["world"]
    assert [file.name for file in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("case", ANNOUNCEMENTS)
def test_bad_announcements(
    stub: SamplerServiceStub, taking: ServerProcess, folder: Path, case: str
):
    changes, field = ANNOUNCEMENTS[case]
    request = announcement(**changes)
    code, reason, metadata, _ = refusal(stub.Publish(iter([request]), timeout=TIMEOUT))
    assert (code, reason, metadata["field"]) == (
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        field,
    )
    assert_nothing_is_left(taking, folder)


@pytest.mark.parametrize("case", REFUSED)
def test_bad_parts(stub: SamplerServiceStub, taking: ServerProcess, folder: Path, case: str):
    requests, expected, expected_metadata = REFUSED[case]
    answers = stub.Publish(iter([announcement(), *requests]), timeout=TIMEOUT)
    assert next(answers).HasField("upload")
    code, reason, metadata, details = refusal(answers)
    assert (code, reason) == (STATUS[expected], expected), details
    assert metadata.items() >= expected_metadata.items()
    assert_nothing_is_left(taking, folder)


def test_columns_of_unequal_length(stub: SamplerServiceStub, taking: ServerProcess, folder: Path):
    request = pairs(HEADS)
    message = request.type_constraints
    message.entities.data = message.entities.data[:-1]
    message.crc32 = zlib.crc32(message.relations.data + message.entities.data)
    answers = stub.Publish(iter([announcement(), CHUNK, request]), timeout=TIMEOUT)
    next(answers)
    code, reason, _, _ = refusal(answers)
    assert (code, reason) == (CODE.INVALID_ARGUMENT, "SHAPE_MISMATCH")
    assert_nothing_is_left(taking, folder)


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        # A triple has 12 bytes, a pair 8.
        ({"type_constraints": types(120, 30), "labels": None}, 3 + 100),
        ({"type_constraints": None, "labels": label_bytes(1200)}, 3 + 100),
    ],
)
def test_constraints_and_labels_share_the_room_of_triples(
    stub: SamplerServiceStub,
    taking: ServerProcess,
    folder: Path,
    changes: dict[str, Any],
    value: int,
):
    request = announcement(**changes)
    request.announcement.num_entities = 60
    code, reason, metadata, _ = refusal(stub.Publish(iter([request]), timeout=TIMEOUT))
    assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "GRAPH_TOO_LARGE")
    assert (metadata["value"], metadata["limit"]) == (str(value), "100")
    assert_nothing_is_left(taking, folder)


def test_an_announced_graph_may_be_sent_in_any_pieces():
    requests = [
        announcement(),
        CHUNK,
        *(pairs([pair], first_row=row) for row, pair in enumerate(HEADS)),
        *(pairs([pair], pb.SLOT_TAIL, row) for row, pair in enumerate(TAILS)),
        *(labels(label, first_id=i) for label, i in ENTITIES.items()),
        *(relation_labels(label, first_id=i) for label, i in RELATIONS.items()),
    ]
    with (
        server_process("--allow-publish", "--threads", "1") as server,
        grpc.insecure_channel(server.target) as channel,
        Client(server.target) as client,
    ):
        answers = list(SamplerServiceStub(channel).Publish(iter(requests), timeout=TIMEOUT))
        last = answers[-1].published.dataset
        assert last.fingerprint == GRAPH.fingerprint
        assert last.has_vocabulary
        assert last.type_constraints_fingerprint
        served = client.triples_factory("toy")
        assert (served.entity_to_id, served.relation_to_id) == (ENTITIES, RELATIONS)
        sampler = served.open_sampler(kind="typed", num_negs_per_pos=50)
        negatives = sampler.sample(TRIPLES[:1], 0).triples(TRIPLES[:1])[0]
        assert {(r, h) for h, r, _ in negatives.tolist()} <= set(HEADS)
        assert {(r, t) for _, r, t in negatives.tolist()} <= set(TAILS)
