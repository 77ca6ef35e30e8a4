"""Repetitions in requests, and values that the server does not know, as the proto describes."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.status import STATUS_OF_REASON, encode_status
from negserve_server.errors import InvalidInput, Refusal
from tests.server.messages import CODE, TIMEOUT, configuration, positives, refusal

#: Field 99, a number, which no message has.
UNKNOWN_FIELD = b"\x98\x06\x07"


def sampled(stub: SamplerServiceStub, *requests: pb.SampleRequest) -> list[pb.SampleResponse]:
    return list(stub.Sample(iter(requests), timeout=TIMEOUT))


@pytest.mark.parametrize("field", ["filter_splits", "corruption_scheme"])
def test_a_repeated_split_or_slot_of_a_sampler_is_refused(stub: SamplerServiceStub, field: str):
    answers = stub.Sample(iter([configuration(sampler={field: [1, 1]})]), timeout=TIMEOUT)
    code, reason, metadata, _ = refusal(answers)
    assert (code, reason) == (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert metadata["field"] == field


def test_repeated_candidates_have_no_effect(stub: SamplerServiceStub):
    def drawn(*values: int) -> bytes:
        ids = pb.Ids(data=bytes(values), width=1)
        answers = sampled(stub, configuration(sampler={"candidates": ids}), positives())
        return answers[1].batch.replaced.data

    assert drawn(5, 6, 7) == drawn(7, 5, 6, 5, 5)


def test_repeated_relations_of_an_epoch_have_no_effect(stub: SamplerServiceStub):
    def counted(*values: int) -> int:
        request = pb.SampleEpochRequest(
            dataset="world",
            sampler=pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=1),
            batch_size=8,
            relations=pb.Ids(data=bytes(values), width=1),
        )
        first = next(stub.SampleEpoch(request, timeout=TIMEOUT))
        return int(first.configured.num_positives)

    assert counted(1, 2) == counted(2, 1, 1, 2)


def test_repeated_splits_of_contains_have_no_effect(stub: SamplerServiceStub):
    def known(*splits: int) -> bytes:
        first = pb.ContainsRequest(
            configuration=pb.ContainsConfiguration(dataset="world", splits=splits)  # type: ignore[arg-type]
        )
        asked = pb.ContainsRequest(triples=positives().positives.triples)
        (answer,) = stub.Contains(iter([first, asked]), timeout=TIMEOUT)
        return bytes(answer.known)

    assert known(1) == known(1, 1)


@pytest.mark.parametrize("method", ["Sample", "Contains", "Known", "Publish"])
def test_a_message_whose_alternative_is_unknown_is_out_of_order(channel: grpc.Channel, method: str):
    path = f"/negserve.v1.SamplerService/{method}"
    answers = channel.stream_stream(path)(iter([UNKNOWN_FIELD]), timeout=TIMEOUT)
    code, reason, metadata, _ = refusal(answers)
    assert (code, reason) == (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER")
    assert metadata["value"] == "nothing"


def test_other_unknown_fields_are_ignored(channel: grpc.Channel):
    path = "/negserve.v1.SamplerService/Sample"
    requests = [configuration().SerializeToString(), positives().SerializeToString()]

    def drawn(suffix: bytes) -> list[bytes]:
        sent = iter([each + suffix for each in requests])
        return list(channel.stream_stream(path)(sent, timeout=TIMEOUT))

    assert drawn(b"") == drawn(UNKNOWN_FIELD)


@pytest.mark.parametrize(
    "change",
    [{"kind": 99}, {"filter_splits": [99]}, {"corruption_scheme": [99]}, {"filter_mode": 99}],
    ids=str,
)
def test_an_unknown_value_of_an_enum_is_refused(stub: SamplerServiceStub, change: Any):
    answers = stub.Sample(iter([configuration(sampler=change)]), timeout=TIMEOUT)
    code, reason, metadata, _ = refusal(answers)
    assert (code, reason) == (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert (metadata["field"], metadata["value"]) == (next(iter(change)), "99")


@pytest.mark.parametrize("reason", STATUS_OF_REASON)
def test_temporary_refusals_say_so(reason: str):
    status = status_pb2.Status.FromString(encode_status(InvalidInput("so", reason=reason)))
    first, *others = status.details
    assert first.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
    passes = reason in {"DRAINING", "TOO_MANY_STREAMS", "STREAM_IDLE", "QUOTA_EXCEEDED"}
    assert len(others) == passes
    for each in others:
        retry = error_details_pb2.RetryInfo()
        assert each.Unpack(retry)
        assert retry.retry_delay in (
            duration_pb2.Duration(),
            duration_pb2.Duration(nanos=500_000_000),
            duration_pb2.Duration(seconds=1),
        )


def test_a_refusal_may_say_when_it_has_passed():
    error = Refusal("so", reason="QUOTA_EXCEEDED", retry_seconds=12.25)
    retry = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(encode_status(error)).details[1].Unpack(retry)
    assert retry.retry_delay == duration_pb2.Duration(seconds=12, nanos=250_000_000)
