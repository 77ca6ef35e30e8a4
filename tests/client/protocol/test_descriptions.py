"""GetServer: version, sampling functions, limits."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import pytest

from negserve import Client, InvalidAnswerError, ServerInfo, aio
from negserve._protocol.descriptions import read_server_info
from negserve.v1 import sampler_pb2 as pb
from negserve_server.config.limits import Limits
from negserve_server.sampling import ALGORITHM_VERSION
from negserve_server.service import messages
from tests.support.server_process import ServerProcess, server_process


def test_version_sampling_functions_and_limits(server: ServerProcess, client: Client):
    info = client.server_info()
    assert info.version == version("negserve")
    assert (info.worker, info.num_workers) == (0, 1)
    assert info.algorithm_versions == (ALGORITHM_VERSION,)
    assert info.limits.max_request_bytes == 16 * 2**20
    assert info.limits.max_values_per_message == 2**18
    assert info.limits.max_unanswered_messages == 64
    assert info.limits.idle_timeout_seconds == 3600
    dataset_limits = client.triples_factory("world").limits
    assert info.limits.max_negatives_per_message == dataset_limits.max_negatives_per_message

    async def ask() -> ServerInfo:
        async with aio.Client(server.target) as other:
            return await other.server_info()

    assert asyncio.run(ask()) == info


def test_limits_are_those_of_the_server():
    with (
        server_process("--max-streams", "7", "--max-stream-seconds", "9.5") as narrow,
        Client(narrow.target) as client,
    ):
        limits = client.server_info().limits
    assert (limits.max_streams, limits.max_stream_seconds) == (7, 9.5)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("version", {"version": "new"}),
        ("version", {"version": "1.2.3\n4"}),
        ("algorithm_versions, numbers", {"algorithm_versions": []}),
        ("algorithm_versions", {"algorithm_versions": [2, 1]}),
        ("algorithm_versions", {"algorithm_versions": [0, 1]}),
        ("worker", {"worker": 1}),
        ("worker", {"worker": 4, "num_workers": 4}),
        ("limits.max_streams", {"limits": {"max_streams": 0}}),
        ("limits.idle_timeout_seconds", {"limits": {"idle_timeout_seconds": float("nan")}}),
        ("limits.idle_timeout_seconds", {"limits": {"idle_timeout_seconds": float("inf")}}),
    ],
    ids=str,
)
def test_values_that_cannot_be_true_are_refused(field: str, change: dict[str, Any]):
    answer = pb.GetServerResponse(
        version="1.2.3", algorithm_versions=[2, 3], limits=messages.encode_limits(Limits())
    )
    assert read_server_info(answer).algorithm_versions == (2, 3)
    for name, value in change.items():
        if name == "limits":
            for limit, number in value.items():
                setattr(answer.limits, limit, number)
        else:
            answer.ClearField(name)  # type: ignore[arg-type]
            answer.MergeFrom(pb.GetServerResponse(**{name: value}))
    with pytest.raises(InvalidAnswerError) as caught:
        read_server_info(answer)
    assert caught.value.metadata["field"] == field
