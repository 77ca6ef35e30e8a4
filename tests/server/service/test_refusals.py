"""Bad input gets the right status and reason, and disturbs nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from negserve.v1 import errors_pb2
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.status import STATUS_OF_REASON
from tests.server.messages import (
    CODE,
    TIMEOUT,
    configuration,
    ids,
    known_configuration,
    positives,
    refusal,
)

BAD_POSITIVES = {
    "head out of range": (
        [positives(heads=ids(1, 2571), relations=ids(1, 1), tails=ids(1, 1))],
        (CODE.INVALID_ARGUMENT, "ENTITY_ID_OUT_OF_RANGE"),
        {"row": "1", "slot": "head", "value": "2571", "limit": "2571"},
    ),
    "tail beyond 63 bits": (
        [positives(tails=ids(2**64 - 1, width=8))],
        (CODE.INVALID_ARGUMENT, "ENTITY_ID_OUT_OF_RANGE"),
        {"slot": "tail", "value": str(2**64 - 1), "row": "0"},
    ),
    "relation out of range": (
        [positives(relations=ids(29))],
        (CODE.INVALID_ARGUMENT, "RELATION_ID_OUT_OF_RANGE"),
        {"slot": "relation", "value": "29", "limit": "29"},
    ),
    "unknown width": (
        [positives(heads=pb.Ids(data=b"abc", width=3))],
        (CODE.INVALID_ARGUMENT, "INVALID_ID_WIDTH"),
        {"field": "heads.width", "value": "3"},
    ),
    "no width": (
        [positives(tails=pb.Ids(data=b"abcd"))],
        (CODE.INVALID_ARGUMENT, "INVALID_ID_WIDTH"),
        {"field": "tails.width", "value": "0"},
    ),
    "half an id": (
        [positives(relations=pb.Ids(data=b"abc", width=2))],
        (CODE.INVALID_ARGUMENT, "INVALID_ID_WIDTH"),
        {"field": "relations.data", "value": "3"},
    ),
    "columns of unequal length": (
        [positives(heads=ids(1, 2))],
        (CODE.INVALID_ARGUMENT, "SHAPE_MISMATCH"),
        {"value": "2, 1, 1 (heads, relations, tails)"},
    ),
    "positions beyond 64 bits": (
        [positives(heads=ids(1, 1), relations=ids(1, 1), tails=ids(1, 1), position=2**64 - 1)],
        (CODE.INVALID_ARGUMENT, "POSITION_OUT_OF_RANGE"),
        {"value": str(2**64 - 1)},
    ),
    "too many negatives": (
        [positives(*(ids(*[1] * (2**17 + 1)) for _ in range(3)))],
        (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
        {"field": "triples", "limit": str(2**17), "value": str(2**17 + 1)},
    ),
    "too many triples": (
        [positives(*(ids(*[1] * (2**18 + 1), width=1) for _ in range(3)))],
        (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
        {"field": "triples", "limit": str(2**18)},
    ),
    "a second configuration": (
        [configuration()],
        (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER"),
        {"value": "configuration", "expected": "positives"},
    ),
    "an empty message": (
        [pb.SampleRequest()],
        (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER"),
        {"value": "nothing"},
    ),
}


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("case", BAD_POSITIVES)
def test_bad_positives(stub: SamplerServiceStub, case: str):
    requests, expected, expected_metadata = BAD_POSITIVES[case]
    answers = stub.Sample(iter([configuration(), positives(), *requests]), timeout=TIMEOUT)
    assert next(answers).configured.sampler.algorithm_version == 2
    assert next(answers).batch.num_positives == 1, "what came before is answered"
    code, reason, metadata, details = refusal(answers)
    assert (code, reason) == expected
    assert metadata.items() >= expected_metadata.items()
    assert metadata["value"] in details, "the message names the value"


@pytest.mark.usefixtures("bystander")
def test_log_probabilities_halve_the_limit(stub: SamplerServiceStub):
    def batch(count: int) -> pb.SampleRequest:
        return positives(*(ids(*[1] * count, width=1) for _ in range(3)))

    with_log_q = configuration(sampler={"log_q": True})
    requests = [with_log_q, batch(2**16), batch(2**16 + 1)]
    answers = stub.Sample(iter(requests), timeout=TIMEOUT)
    assert next(answers).configured.sampler.log_q
    assert len(next(answers).batch.log_q) == 4 * 2**18
    code, reason, metadata, _ = refusal(answers)
    assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert metadata == {"field": "triples", "value": str(2**16 + 1), "limit": str(2**16)}


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    ("method", "good"),
    [
        ("Sample", configuration()),
        ("Contains", None),
        ("Known", None),
        ("GetDataset", None),
        ("GetVocabulary", None),
    ],
)
def test_malformed_bytes(channel: grpc.Channel, method: str, good: Any):
    garbage = b"\xff\xff\xff\xffgarbage"
    path = f"/negserve.v1.SamplerService/{method}"
    if method in {"Sample", "Contains", "Known"}:
        messages = [garbage] if good is None else [good.SerializeToString(), garbage]
        answers = channel.stream_stream(path)(iter(messages), timeout=TIMEOUT)
    elif method == "GetVocabulary":
        answers = channel.unary_stream(path)(garbage, timeout=TIMEOUT)
    else:
        answers = (channel.unary_unary(path)(garbage, timeout=TIMEOUT) for _ in range(1))
    code, reason, _, details = refusal(answers)
    assert (code, reason) == (CODE.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert f"negserve.v1.{method}Request" in details


@pytest.mark.usefixtures("bystander")
def test_contains_refusals(stub: SamplerServiceStub):
    def ask(*requests: pb.ContainsRequest) -> tuple[grpc.StatusCode, str]:
        return refusal(stub.Contains(iter(requests), timeout=TIMEOUT))[:2]

    def configured(*splits: int, dataset: str = "world") -> pb.ContainsRequest:
        return pb.ContainsRequest(
            configuration=pb.ContainsConfiguration(dataset=dataset, splits=splits)  # type: ignore[arg-type]
        )

    triples = pb.ContainsRequest(triples=positives().positives.triples)
    assert ask(triples) == (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER")
    assert ask(configured()) == (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert ask(configured(9)) == (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert ask(configured(1, dataset="x")) == (CODE.NOT_FOUND, "UNKNOWN_DATASET")
    assert ask(configured(1), configured(1)) == (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER")
    outside = pb.ContainsRequest(triples=positives(heads=ids(9999)).positives.triples)
    assert ask(configured(1), triples, outside) == (CODE.INVALID_ARGUMENT, "ENTITY_ID_OUT_OF_RANGE")


def asking(first: pb.Ids, second: pb.Ids) -> pb.KnownRequest:
    return pb.KnownRequest(pairs=pb.Pairs(first=first, second=second))


#: By slot: what follows a good message, and how it is refused.
BAD_PAIRS = {
    "head out of range": (
        "tail",
        asking(ids(1, 2571), ids(1, 1)),
        (CODE.INVALID_ARGUMENT, "ENTITY_ID_OUT_OF_RANGE"),
        {"row": "1", "slot": "head", "value": "2571", "limit": "2571"},
    ),
    "relation out of range": (
        "head",
        asking(ids(29), ids(1)),
        (CODE.INVALID_ARGUMENT, "RELATION_ID_OUT_OF_RANGE"),
        {"row": "0", "slot": "relation", "value": "29", "limit": "29"},
    ),
    "tail beyond 63 bits": (
        "relation",
        asking(ids(1), ids(2**64 - 1, width=8)),
        (CODE.INVALID_ARGUMENT, "ENTITY_ID_OUT_OF_RANGE"),
        {"row": "0", "slot": "tail", "value": str(2**64 - 1)},
    ),
    "unknown width": (
        "tail",
        asking(ids(1), pb.Ids(data=b"abc", width=3)),
        (CODE.INVALID_ARGUMENT, "INVALID_ID_WIDTH"),
        {"field": "relations.width", "value": "3"},
    ),
    "half an id": (
        "head",
        asking(pb.Ids(data=b"abc", width=2), ids(1)),
        (CODE.INVALID_ARGUMENT, "INVALID_ID_WIDTH"),
        {"field": "relations.data", "value": "3"},
    ),
    "columns of unequal length": (
        "relation",
        asking(ids(1, 2), ids(1)),
        (CODE.INVALID_ARGUMENT, "SHAPE_MISMATCH"),
        {"value": "2, 1 (heads, tails)"},
    ),
    "too many pairs": (
        "tail",
        asking(*(ids(*[1] * (2**18 + 1), width=1) for _ in range(2))),
        (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
        {"field": "pairs", "limit": str(2**18), "value": str(2**18 + 1)},
    ),
    "an empty message": (
        "tail",
        pb.KnownRequest(),
        (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER"),
        {"value": "nothing", "expected": "pairs"},
    ),
    "a second configuration": (
        "tail",
        known_configuration(),
        (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER"),
        {"value": "configuration", "expected": "pairs"},
    ),
}


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("case", BAD_PAIRS)
def test_bad_pairs(stub: SamplerServiceStub, case: str):
    slot, request, expected, expected_metadata = BAD_PAIRS[case]
    requests = [
        known_configuration(slot=pb.Slot.Value(f"SLOT_{slot.upper()}")),
        asking(ids(1, 2), ids(1, 1)),
        request,
    ]
    answers = stub.Known(iter(requests), timeout=TIMEOUT)
    assert len(next(answers).counts.data) == 2, "what came before is answered"
    code, reason, metadata, details = refusal(answers)
    assert (code, reason) == expected
    assert metadata.items() >= expected_metadata.items()
    assert metadata["value"] in details, "the message names the value"


@pytest.mark.usefixtures("bystander")
def test_known_refuses_configurations(stub: SamplerServiceStub):
    def ask(*requests: pb.KnownRequest) -> tuple[grpc.StatusCode, str, str]:
        code, reason, metadata, _ = refusal(stub.Known(iter(requests), timeout=TIMEOUT))
        return code, reason, metadata.get("field", metadata["value"])

    invalid = (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert ask(known_configuration(splits=[])) == (*invalid, "splits")
    assert ask(known_configuration(splits=[9])) == (*invalid, "splits")
    assert ask(known_configuration(slot=0)) == (*invalid, "slot")
    assert ask(known_configuration(slot=9)) == (*invalid, "slot")
    assert ask(known_configuration(dataset="x")) == (CODE.NOT_FOUND, "UNKNOWN_DATASET", "x")
    assert ask(known_configuration(expected_fingerprint="0" * 64))[:2] == (
        CODE.FAILED_PRECONDITION, "FINGERPRINT_MISMATCH",
    )  # fmt: skip
    assert ask(asking(ids(1), ids(1)))[:2] == (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER")


@pytest.mark.parametrize(
    ("method", "request_class"),
    [
        ("GetDataset", pb.GetDatasetRequest),
        ("GetRelationStatistics", pb.GetRelationStatisticsRequest),
        ("GetVocabulary", pb.GetVocabularyRequest),
    ],
)
def test_unknown_datasets_are_refused_by_every_rpc(
    stub: SamplerServiceStub, method: str, request_class: Any
):
    def answers() -> Iterator[Any]:
        answer = getattr(stub, method)(request_class(dataset="moon"), timeout=TIMEOUT)
        yield from [answer] if method == "GetDataset" else answer

    code, reason, metadata, _ = refusal(answers())
    assert (code, reason, metadata["value"]) == (CODE.NOT_FOUND, "UNKNOWN_DATASET", "moon")
    assert "world" in metadata["limit"]


def test_any_width_is_taken_and_the_answer_is_narrow(stub: SamplerServiceStub):
    requests = [
        positives(*(ids(value, width=width) for value in (1, 2, 3))) for width in (1, 2, 4, 8)
    ]
    _, *answers = stub.Sample(iter([configuration(), *requests]), timeout=TIMEOUT)
    assert len({answer.batch.replaced.data for answer in answers}) == 1
    assert {answer.batch.replaced.width for answer in answers} == {2}


def test_a_stream_without_messages_ends(stub: SamplerServiceStub):
    assert list(stub.Sample(iter([]), timeout=TIMEOUT)) == []
    assert list(stub.Contains(iter([]), timeout=TIMEOUT)) == []
    assert list(stub.Known(iter([]), timeout=TIMEOUT)) == []
    # Also one that has only said what it is about.
    assert list(stub.Known(iter([known_configuration()]), timeout=TIMEOUT)) == []


def test_the_proto_lists_exactly_the_reasons_that_are_sent():
    names = {
        name.removeprefix("ERROR_REASON_")
        for name in errors_pb2.ErrorReason.keys()
        if name != "ERROR_REASON_UNSPECIFIED"
    }
    assert names == set(STATUS_OF_REASON)
