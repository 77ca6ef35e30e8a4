"""Refused publications: the right status and reason, and nothing remains of them."""

from __future__ import annotations

import queue
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from negserve import Client
from negserve.types.fingerprint import graph_fingerprint, split_fingerprint
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, TIMEOUT, ids, refusal
from tests.support.server_process import ServerProcess, server_process

SIZES = 50, 3
TRIPLES = np.array([(i, i % 3, (7 * i + 1) % 50) for i in range(40)])
FINGERPRINT = graph_fingerprint({"training": split_fingerprint(TRIPLES, *SIZES)})
LIMITS = (
    "--max-publish-triples", "100", "--max-publish-ids", "200", "--max-publish-graphs", "3",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def taking(folder: Path) -> Iterator[ServerProcess]:
    """A server with low limits that accepts published graphs."""
    with server_process("--allow-publish", "--publish-dir", str(folder), *LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def stub(taking: ServerProcess) -> Iterator[SamplerServiceStub]:
    with grpc.insecure_channel(taking.target) as channel:
        yield SamplerServiceStub(channel)


def announcement(num_triples: int = 40, **changes: Any) -> pb.PublishRequest:
    splits = [pb.AnnouncedSplit(split=pb.SPLIT_TRAINING, num_triples=num_triples)]
    fields = {
        "name": "toy",
        "fingerprint": FINGERPRINT,
        "num_entities": SIZES[0],
        "num_relations": SIZES[1],
        "splits": splits,
        **changes,
    }
    return pb.PublishRequest(announcement=pb.PublishAnnouncement(**fields))


def chunk(
    begin: int = 0, end: int = 40, triples: np.ndarray[Any, Any] = TRIPLES, **changes: Any
) -> pb.PublishRequest:
    heads, relations, tails = (ids(*column, width=2) for column in triples[begin:end].T)
    message = pb.PublishChunk(
        split=pb.SPLIT_TRAINING,
        first_row=begin,
        triples=pb.Triples(heads=heads, relations=relations, tails=tails),
        crc32=zlib.crc32(heads.data + relations.data + tails.data),
    )
    for field, value in changes.items():
        setattr(message, field, value)
    return pb.PublishRequest(chunk=message)


def outside(row: int, column: int, value: int) -> np.ndarray[Any, Any]:
    changed = TRIPLES.copy()
    changed[row, column] = value
    return changed


ANNOUNCEMENTS = {
    "no name": {"name": ""},
    "a path": {"name": "../toy"},
    "an absolute path": {"name": "/toy"},
    "a hidden file": {"name": ".toy"},
    "a line feed": {"name": "toy\n"},
    "a letter that looks like another": {"name": "töy"},
    "a long name": {"name": 101 * "x"},
    "no fingerprint": {"fingerprint": ""},
    "a fingerprint in upper case": {"fingerprint": FINGERPRINT.upper()},
    "no entities": {"num_entities": 0},
    "more relations than an id space holds": {"num_relations": 2**32 + 1},
    "no splits": {"splits": []},
    "no training triples": {"splits": [pb.AnnouncedSplit(split=pb.SPLIT_TRAINING)]},
    "no training split": {"splits": [pb.AnnouncedSplit(split=pb.SPLIT_TESTING, num_triples=3)]},
    "a split twice": {"splits": 2 * [pb.AnnouncedSplit(split=pb.SPLIT_TRAINING, num_triples=3)]},
    "no such split": {"splits": [pb.AnnouncedSplit(split=9, num_triples=3)]},  # type: ignore[arg-type]
}

CHUNKS = {
    "an announcement": ([announcement()], "STREAM_OUT_OF_ORDER", {"value": "announcement"}),
    "nothing": ([pb.PublishRequest()], "STREAM_OUT_OF_ORDER", {"value": "nothing"}),
    "the end": ([chunk(0, 39)], "STREAM_OUT_OF_ORDER", {"value": "nothing"}),
    "a gap": ([chunk(0, 10), chunk(11, 40)], "STREAM_OUT_OF_ORDER", {}),
    "a repetition": ([chunk(0, 10), chunk(0, 10)], "STREAM_OUT_OF_ORDER", {}),
    "another split": ([chunk(split=pb.SPLIT_TESTING)], "STREAM_OUT_OF_ORDER", {}),
    "too much": (
        [chunk(0, 30), chunk(0, 30, first_row=30)],
        "STREAM_OUT_OF_ORDER",
        {"expected": "1 to 10 triples of training from row 30 on"},
    ),
    "no triples": ([chunk(0, 0)], "STREAM_OUT_OF_ORDER", {}),
    "no such split": ([chunk(split=7)], "INVALID_CONFIGURATION", {"field": "split"}),
    "a bit that flipped": (
        [chunk(crc32=5)],
        "CHECKSUM_MISMATCH",
        {"value": "5", "limit": str(chunk().chunk.crc32)},
    ),
    "an id outside": (
        [chunk(0, 20), chunk(20, 40, outside(21, 2, 50))],
        "ENTITY_ID_OUT_OF_RANGE",
        {"row": "1", "slot": "tail", "value": "50", "limit": "50"},
    ),
    "a relation outside": (
        [chunk(0, 40, outside(2, 1, 3))],
        "RELATION_ID_OUT_OF_RANGE",
        {"value": "3"},
    ),
    "another graph": (
        [chunk(0, 40, outside(3, 2, 49))],
        "FINGERPRINT_MISMATCH",
        {"value": FINGERPRINT},
    ),
}
STATUS = {
    "STREAM_OUT_OF_ORDER": CODE.FAILED_PRECONDITION,
    "INVALID_CONFIGURATION": CODE.INVALID_ARGUMENT,
    "CHECKSUM_MISMATCH": CODE.DATA_LOSS,
    "ENTITY_ID_OUT_OF_RANGE": CODE.INVALID_ARGUMENT,
    "RELATION_ID_OUT_OF_RANGE": CODE.INVALID_ARGUMENT,
    "FINGERPRINT_MISMATCH": CODE.FAILED_PRECONDITION,
}


def assert_nothing_is_left(stub: SamplerServiceStub, folder: Path) -> None:
    answers = stub.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT)
    assert [dataset.name for answer in answers for dataset in answer.datasets] == ["world"]
    assert [file.name for file in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("case", ANNOUNCEMENTS)
def test_bad_announcements(stub: SamplerServiceStub, folder: Path, case: str):
    (field,) = ANNOUNCEMENTS[case]
    request = announcement(**ANNOUNCEMENTS[case])
    code, reason, metadata, details = refusal(stub.Publish(iter([request]), timeout=TIMEOUT))
    assert (code, reason) == (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert metadata["field"] == field
    assert field in details
    assert_nothing_is_left(stub, folder)


@pytest.mark.parametrize("case", CHUNKS)
def test_bad_chunks(stub: SamplerServiceStub, folder: Path, case: str):
    requests, expected, expected_metadata = CHUNKS[case]
    answers = stub.Publish(iter([announcement(), *requests]), timeout=TIMEOUT)
    assert next(answers).upload.max_triples_per_chunk == 2**18
    code, reason, metadata, _ = refusal(answers)
    assert (code, reason) == (STATUS[expected], expected)
    assert metadata.items() >= expected_metadata.items()
    assert_nothing_is_left(stub, folder)


def test_too_many_triples_in_one_chunk(stub: SamplerServiceStub, folder: Path):
    rows = np.zeros((2**18 + 1, 3), dtype=int)
    answers = stub.Publish(iter([announcement(), chunk(0, len(rows), rows)]), timeout=TIMEOUT)
    next(answers)
    code, reason, metadata, _ = refusal(answers)
    assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert metadata["limit"] == str(2**18)
    assert_nothing_is_left(stub, folder)


@pytest.mark.parametrize(
    ("changes", "field", "value", "left"),
    [
        ({"num_triples": 101}, "triples", 101, 100),
        ({"num_triples": 2**63}, "triples", 2**63, 100),
        ({"num_entities": 2**32}, "ids", 2**32 + 3, 200),
        ({"num_entities": 198}, "ids", 201, 200),
    ],
)
def test_a_graph_that_is_too_large_is_refused_at_its_announcement(
    stub: SamplerServiceStub,
    folder: Path,
    changes: dict[str, int],
    field: str,
    value: int,
    left: int,
):
    answers = stub.Publish(iter([announcement(**changes), chunk()]), timeout=TIMEOUT)
    code, reason, metadata, details = refusal(answers)
    assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "GRAPH_TOO_LARGE")
    assert metadata == {"resource": field, "value": str(value), "limit": str(left)}
    assert f"--max-publish-{field}" in details
    assert_nothing_is_left(stub, folder)


def test_publishing_is_off_by_default(server: ServerProcess):
    with grpc.insecure_channel(server.target) as channel:
        answers = SamplerServiceStub(channel).Publish(iter([announcement()]), timeout=TIMEOUT)
        code, reason, metadata, details = refusal(answers)
    assert (code, reason) == (CODE.PERMISSION_DENIED, "PUBLISH_NOT_ALLOWED")
    assert metadata == {"value": "toy"}
    assert "--allow-publish" in details


@pytest.mark.parametrize("name", ["world", "taken"])
def test_a_name_of_another_graph_is_refused(name: str):
    with (
        server_process("--allow-publish", "--threads", "1") as server,
        Client(server.target) as client,
        grpc.insecure_channel(server.target) as channel,
    ):
        taken = client.publish("taken", TRIPLES[:9])
        stub = SamplerServiceStub(channel)
        code, reason, metadata, details = refusal(
            stub.Publish(iter([announcement(name=name)]), timeout=TIMEOUT)
        )
        assert (code, reason) == (CODE.FAILED_PRECONDITION, "FINGERPRINT_MISMATCH")
        held = client.triples_factory(name).fingerprint
        assert metadata == {"value": FINGERPRINT, "limit": held}
        assert "use another name" in details
        assert client.triples_factory("taken").fingerprint == taken.fingerprint


def test_a_stream_without_messages_ends(stub: SamplerServiceStub):
    assert list(stub.Publish(iter([]), timeout=TIMEOUT)) == []


def test_while_one_uploads_others_wait_and_another_graph_is_refused():
    with (
        server_process("--allow-publish", "--threads", "1", *LIMITS) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)
        requests: queue.SimpleQueue[pb.PublishRequest | None] = queue.SimpleQueue()
        uploader = stub.Publish(iter(requests.get, None), timeout=TIMEOUT)
        requests.put(announcement())
        assert next(uploader).HasField("upload")
        requests.put(chunk(0, 10))
        assert next(uploader).progress.num_received == 10

        others = [stub.Publish(iter([announcement()]), timeout=TIMEOUT) for _ in range(3)]
        for other in others:
            for _ in range(3):  # a sign of life comes again and again
                progress = next(other).progress
                assert progress.stage == pb.PublishProgress.STAGE_WAITING
                assert (progress.num_received, progress.num_triples) == (10, 40)
        code, reason, metadata, _ = refusal(
            stub.Publish(iter([announcement(fingerprint=64 * "0")]), timeout=TIMEOUT)
        )
        assert (code, reason) == (CODE.FAILED_PRECONDITION, "FINGERPRINT_MISMATCH")
        assert metadata == {"value": 64 * "0", "limit": FINGERPRINT}
        # Room is held for what has arrived.
        rows = np.array([(i % 50, i // 50, (i + 1) % 50) for i in range(91)])
        answers = stub.Publish(
            iter([announcement(91, name="other"), chunk(0, 91, rows)]), timeout=TIMEOUT
        )
        assert next(answers).HasField("upload")
        code, reason, metadata, _ = refusal(answers)
        assert (reason, metadata) == (
            "GRAPH_TOO_LARGE",
            {"resource": "triples", "value": "91", "limit": "90"},
        )

        requests.put(chunk(10, 40))
        for waiting in (uploader, *others):
            *_, last = waiting
            assert last.published.dataset.fingerprint == FINGERPRINT
            assert last.published.limits.max_triples_per_message == 2**18
        requests.put(None)


def test_if_the_uploader_fails_one_of_the_others_is_asked():
    asked: list[int] = []

    def take_part(stub: SamplerServiceStub, number: int) -> str:
        """Upload when asked, the first one another graph; return how it ended."""
        requests: queue.SimpleQueue[pb.PublishRequest | None] = queue.SimpleQueue()
        requests.put(announcement())
        call = stub.Publish(iter(requests.get, None), timeout=TIMEOUT)
        try:
            for answer in call:
                if answer.HasField("upload"):
                    asked.append(number)
                    requests.put(chunk(triples=outside(3, 2, 49)) if len(asked) == 1 else chunk())
        except grpc.RpcError as error:
            return str(error.details())
        finally:
            requests.put(None)
        assert answer.published.dataset.fingerprint == FINGERPRINT
        return "published"

    with (
        server_process("--allow-publish", "--threads", "1") as server,
        grpc.insecure_channel(server.target) as channel,
        ThreadPoolExecutor(4) as threads,
    ):
        stub = SamplerServiceStub(channel)
        requests: queue.SimpleQueue[pb.PublishRequest | None] = queue.SimpleQueue()
        requests.put(announcement())
        uploader = stub.Publish(iter(requests.get, None), timeout=TIMEOUT)
        next(uploader)
        requests.put(chunk(0, 30))
        assert next(uploader).progress.num_received == 30
        ends = [threads.submit(take_part, stub, number) for number in range(4)]
        time.sleep(0.2)
        assert not asked
        uploader.cancel()
        requests.put(None)
        told = [end.result(TIMEOUT) for end in ends]
        # Content of another graph is the fault of who sent it, not of who waits.
        assert len(asked) == 2
        assert "the graph that came has fingerprint" in told[asked[0]]
        assert sorted(told).count("published") == 3


def test_room_is_for_all_published_graphs_together(tmp_path: Path):
    options = ("--allow-publish", "--publish-dir", str(tmp_path), "--threads", "1", *LIMITS)
    sizes = {"num_entities": SIZES[0], "num_relations": SIZES[1]}
    for restarted in (False, True):
        with server_process(*options) as server, Client(server.target) as client:
            if not restarted:
                for name in ("a", "b"):
                    client.publish(name, TRIPLES, **sizes)
            assert client.list_datasets() == ["world", "a", "b"]
            with grpc.insecure_channel(server.target) as channel:
                _, reason, metadata, _ = refusal(
                    SamplerServiceStub(channel).Publish(iter([announcement()]), timeout=TIMEOUT)
                )
            assert reason == "GRAPH_TOO_LARGE"
            assert metadata == {"resource": "triples", "value": "40", "limit": "20"}
            if restarted:
                client.publish("c", TRIPLES[:1])
                with grpc.insecure_channel(server.target) as channel:
                    _, reason, metadata, _ = refusal(
                        SamplerServiceStub(channel).Publish(
                            iter([announcement(1)]), timeout=TIMEOUT
                        )
                    )
                assert metadata == {"resource": "graphs", "value": "1", "limit": "0"}
