"""The number of values in a message is known before it is parsed."""

from __future__ import annotations

import grpc
import pytest

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.message_values import count_values
from tests.server.messages import CODE, TIMEOUT, configuration, refusal

SAMPLE = pb.SampleRequest.DESCRIPTOR


def test_values_of_all_messages_count():
    request = pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            dataset="x" * 1000,
            sampler=pb.SamplerConfig(
                filter_splits=[pb.SPLIT_TRAINING] * 5,
                mixture=[pb.MixturePart()] * 3,
                candidates=pb.Ids(data=bytes(10_000), width=1),
                alpha=0.5,
                seed=2**64 - 1,
            ),
        )
    )
    # configuration, dataset, sampler; the list of 5; 3; candidates with 2; alpha; seed
    assert count_values(SAMPLE, request.SerializeToString(), 100) == 3 + 6 + 3 + 3 + 1 + 1


def test_doubles_count_by_their_size():
    message = pb.GetRelationStatisticsResponse(tails_per_head=[1.0] * 7)
    assert count_values(message.DESCRIPTOR, message.SerializeToString(), 100) == 1 + 7


def test_counting_ends_at_the_limit():
    data = pb.PublishRequest(labels=pb.PublishLabels(labels=["x"] * 1000)).SerializeToString()
    assert 11 <= count_values(pb.PublishRequest.DESCRIPTOR, data, 10) < 1000


@pytest.mark.parametrize(
    "data", [b"\x0a\x05abc", b"\x80" * 11, b"\x0a", b"\x09abc", b"\x0d", b"\x0f", b"\x06"]
)
def test_malformed_messages_are_reported(data: bytes):
    with pytest.raises(ValueError, match=r"value|number|wire type"):
        count_values(SAMPLE, data, 100)


def test_a_message_of_too_many_values_is_refused(stub: SamplerServiceStub, bystander: None):
    request = configuration(sampler={"mixture": [pb.MixturePart()] * 2**19})
    code, reason, metadata, _ = refusal(stub.Sample(iter([request]), timeout=TIMEOUT))
    assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert (metadata["resource"], metadata["limit"]) == ("values", str(2**18))


def test_a_large_message_that_is_none_is_malformed(channel: grpc.Channel):
    call = channel.stream_stream("/negserve.v1.SamplerService/Sample")
    _, reason, *_ = refusal(call(iter([b"\xff" * 2**19]), timeout=TIMEOUT))
    assert reason == "MALFORMED_MESSAGE"
