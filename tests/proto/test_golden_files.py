"""The golden files of ``proto/testdata`` are complete, small, and equal to a server's answers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from negserve.v1 import errors_pb2
from tests.proto.cases import CASES, MALFORMED, WITHOUT_REASONS
from tests.proto.recording import (
    FOLDER,
    METHODS,
    MOST_BYTES_WITH_JSON,
    call,
    golden_files,
    head,
    refusal,
    server_of,
)
from tests.support.descriptors import assert_parsable, messages_of_rpcs
from tests.support.graphs import load
from tests.support.oracle import known
from tests.support.server_process import server_process

_MOST_BYTES = 420_000
#: Of a refusal; its sentence may change.
COMPARED = ("domain", "reason", "metadata")


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    """A server of the embedded graph alone, so that ``ListDatasets`` has one answer."""
    with server_process() as server, grpc.insecure_channel(server.target) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def written(channel: grpc.Channel) -> None:
    """Write the files if this run is ``make golden``."""
    if os.environ.get("NEGSERVE_WRITE_GOLDEN") == "1":
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob("*.json"):
            path.unlink()
        for name, text in golden_files(channel).items():
            (FOLDER / name).write_text(text, encoding="utf-8")


def files() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in files().values():
        for case in file["cases"]:
            yield file["rpc"], case


def test_the_files_are_current(channel: grpc.Channel):
    texts = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    assert texts == golden_files(channel), "look into the change; if it is meant, `make golden`"


def test_a_server_answers_every_request_with_the_same_bytes(channel: grpc.Channel):
    for name, file in files().items():
        with server_of(name, channel) as served:
            for case in file["cases"]:
                replay(served, file["rpc"], case)


def replay(channel: grpc.Channel, rpc: str, case: dict[str, Any]) -> None:
    requests = [bytes.fromhex(request["hex"]) for request in case["requests"]]
    answers, error = call(channel, rpc, requests)
    assert [answer.hex() for answer in answers] == [each["hex"] for each in case["responses"]], (
        f"{rpc}: {case['name']}"
    )
    assert case["status"] == ("OK" if error is None else error.code().name)
    assert ("error" in case) == (error is not None)
    if error is not None:
        told = refusal(error)
        assert {key: told[key] for key in COMPARED} == {key: case["error"][key] for key in COMPARED}


def cases_about(dataset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in files().values():
        if file["dataset"] == dataset:
            for case in file["cases"]:
                yield file["rpc"], case


def test_json_and_bytes_are_the_same_messages():
    for rpc, case in cases():
        for key, kind in (("requests", "input_type"), ("responses", "output_type")):
            message_class = GetMessageClass(getattr(METHODS[rpc], kind))
            for each in case[key]:
                if each["json"] is None:
                    is_long = len(each["hex"]) // 2 > MOST_BYTES_WITH_JSON
                    assert is_long or case["error"]["reason"] == "MALFORMED_MESSAGE"
                    continue
                parsed = json_format.ParseDict(each["json"], message_class())
                assert parsed.SerializeToString(deterministic=True).hex() == each["hex"]


def test_the_rebuilt_negatives_keep_the_promises():
    graph = load("world")
    for rpc, case in cases_about("world"):
        for batch in case.get("batches", []):
            negatives, mask = np.array(batch["negatives"]), np.array(batch["mask"], dtype=bool)
            assert negatives.shape[:2] == mask.shape
            splits = filter_splits(rpc, case)
            if splits and negatives.size:
                assert not known(graph, negatives[mask], splits).any(), case["name"]


def filter_splits(rpc: str, case: dict[str, Any]) -> tuple[str, ...]:
    request = case["requests"][0]["json"]
    config = (request["configuration"] if rpc == "Sample" else request)["sampler"]
    return tuple(name.removeprefix("SPLIT_").lower() for name in config.get("filterSplits", []))


def test_every_rpc_has_cases():
    assert set(files()) == set(CASES)
    assert {file["rpc"] for file in files().values()} == set(METHODS)
    for name, file in files().items():
        rpc, _, graph = name.partition(".")
        assert file.items() >= head(rpc, graph or "world").items()
        names = [case["name"] for case in file["cases"]]
        assert len(set(names)) == len(names)
        assert "OK" in {case["status"] for case in file["cases"]}


def test_every_reason_has_a_case():
    found = {case["error"]["reason"] for _, case in cases() if "error" in case}
    reasons = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}
    assert found == reasons - {"UNSPECIFIED"} - set(WITHOUT_REASONS)


def test_every_field_of_requests_and_answers_occurs():
    """So that a decoder that forgets a field fails."""
    seen: set[str] = set()

    def visit(message: Any) -> None:
        for field, value in message.ListFields():
            seen.add(field.full_name)
            if field.message_type is not None:
                for each in value if field.is_repeated else [value]:
                    visit(each)

    for rpc, case in cases():
        for key, kind in (("requests", "input_type"), ("responses", "output_type")):
            for each in case[key]:
                if bytes.fromhex(each["hex"]) != MALFORMED:
                    message_class = GetMessageClass(getattr(METHODS[rpc], kind))
                    visit(message_class.FromString(bytes.fromhex(each["hex"])))
    messages = messages_of_rpcs()
    expected = {field.full_name for message in messages.values() for field in message.fields}
    # The graphs have no triples with labels unseen in training, few labels and relations, and no
    # pair with so many values that the answer is divided. The server has one process.
    assert expected - seen == {
        "negserve.v1.SplitSummary.num_unseen",
        "negserve.v1.GetServerResponse.worker",
        "negserve.v1.GetRelationStatisticsResponse.first_id",
        "negserve.v1.GetVocabularyResponse.first_id",
        "negserve.v1.KnownResponse.first_pair",
        "negserve.v1.KnownResponse.is_continued",
    }


def test_every_width_of_an_answer_occurs():
    seen: dict[str, set[int]] = {
        "replaced": set(),
        "head_counts": set(),
        "heads": set(),
        "values": set(),
    }

    def note(batch: Any) -> None:
        for name in ("replaced", "head_counts"):
            seen[name].add(getattr(batch, name).width)

    for rpc, case in cases():
        for each in case["responses"] if rpc in {"Sample", "SampleEpoch", "Known"} else []:
            response = GetMessageClass(METHODS[rpc].output_type).FromString(
                bytes.fromhex(each["hex"])
            )
            if rpc == "Known":
                seen["values"].add(response.values.width)
            elif rpc == "Sample":
                note(response.batch)
            else:
                for epoch_batch in response.batches.batches:
                    seen["heads"].add(epoch_batch.positives.heads.width)
                    note(epoch_batch.negatives)
    assert {name: widths - {0} for name, widths in seen.items()} == {
        "replaced": {1, 2, 4},
        "head_counts": {1, 2},
        "heads": {2, 4},
        "values": {1, 2, 4},
    }


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < _MOST_BYTES


def test_the_metadata_of_refusals_can_be_parsed():
    for rpc, case in cases():
        assert_parsable(case.get("error", {}).get("metadata", {}), METHODS[rpc].input_type)
