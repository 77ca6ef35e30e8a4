"""Raw channels to a real server."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import grpc
import pytest

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import TIMEOUT, configuration, positives
from tests.support.server_process import ServerProcess


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> SamplerServiceStub:
    return SamplerServiceStub(channel)


@pytest.fixture
def bystander(stub: SamplerServiceStub) -> Iterator[None]:
    """Another stream, which must work before, during and after the refusal."""
    requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
    answers = stub.Sample(iter(requests.get, None), timeout=TIMEOUT)
    requests.put(configuration())
    next(answers)
    requests.put(positives())
    before = next(answers)
    yield
    requests.put(positives())
    assert next(answers) == before
    requests.put(None)
    assert list(answers) == []
