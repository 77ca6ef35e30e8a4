"""The health service: its answers, and its bounded memory of callers."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.errors import Refusal
from negserve_server.publishing.datasets import Datasets
from negserve_server.service import Health
from tests.server.messages import CODE, TIMEOUT, refusal
from tests.support.server_process import ServerProcess, server_process

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


def test_watching_names_of_a_megabyte_costs_nothing(server: ServerProcess, stub: Any):
    assert stub.Check(request(""), timeout=TIMEOUT).status == 1
    before = server.resident_bytes
    for number in range(100):
        name = f"{number}".rjust(MEGABYTE, "x")
        code, reason, metadata, _ = refusal(stub.Watch(request(name), timeout=TIMEOUT))
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert metadata == {"resource": "characters", "value": str(MEGABYTE), "limit": "160"}
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(request(name), timeout=TIMEOUT)
        assert caught.value.code() is CODE.NOT_FOUND
    # 200 MB were received; what gRPC keeps of its buffers for the next ones is no more than this.
    assert server.resident_bytes - before < 100 * MEGABYTE


def test_an_unknown_name_is_refused_without_listing_others(stub: Any):
    watch = stub.Watch(request("moon"), timeout=TIMEOUT)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()
    code, reason, metadata, details = refusal(
        stub.Check(request("moon"), timeout=TIMEOUT) for _ in range(1)
    )
    assert (code, reason, metadata) == (CODE.NOT_FOUND, "UNKNOWN_DATASET", {"value": "moon"})
    assert "world" not in details


def test_one_connection_watches_a_few_times(stub: Any):
    watches = [stub.Watch(request(""), timeout=TIMEOUT) for _ in range(16)]
    assert [next(watch).status for watch in watches] == 16 * [1]
    code, reason, metadata, _ = refusal(stub.Watch(request(""), timeout=TIMEOUT))
    assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    assert metadata["limit"] == "16"
    for watch in watches:
        watch.cancel()


def test_watches_need_the_token_and_probes_do_not(tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-some-length\n")
    with (
        server_process("--token-file", str(tokens)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(request("world"), timeout=TIMEOUT).status == 1
        assert refusal(health.Watch(request(""), timeout=TIMEOUT))[1] == "CREDENTIALS_MISSING"
        metadata = [("authorization", "Bearer a-token-of-some-length")]
        watch = health.Watch(request(""), timeout=TIMEOUT, metadata=metadata)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with contextlib.suppress(grpc.RpcError):
            watch.cancel()


class SlowContext:
    """A call of a client that has not taken the answer yet, until it is let.

    :ivar told: the answers
    """

    def __init__(self) -> None:
        self.told: list[int] = []
        self.goes_on, self.is_asked = asyncio.Event(), asyncio.Event()
        self._requests: list[Any] = [request("").SerializeToString()]

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def read(self) -> Any:
        return self._requests.pop() if self._requests else grpc.aio.EOF

    async def send_initial_metadata(self, _: object) -> None:
        pass

    async def write(self, answer: bytes) -> None:
        self.told.append(health_pb2.HealthCheckResponse.FromString(answer).status)
        self.is_asked.set()
        await self.goes_on.wait()


def test_a_drain_tells_those_who_watch_although_the_answer_before_is_on_its_way():
    async def drain() -> list[int]:
        context = SlowContext()
        admission, health = AdmissionControl(Limits()), Health(Datasets({}))

        async def watch() -> None:
            stream = ServerStream[Any](context, health_pb2.HealthCheckRequest)  # type: ignore[arg-type]
            with admission.admit(stream, is_watch=True), contextlib.suppress(Refusal):
                async for answer in health.watch(stream):
                    await stream.write(answer)

        watching = asyncio.create_task(watch())
        await context.is_asked.wait()
        health.drain()
        draining = asyncio.create_task(admission.drain(TIMEOUT))
        await asyncio.sleep(0)
        context.goes_on.set()
        await watching
        draining.cancel()
        return context.told

    told = asyncio.run(drain())
    assert told == [
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    ]
