"""Missing, surplus and early messages get a typed answer, not silence."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, TIMEOUT, configuration, ids, positives, refusal
from tests.support.descriptors import SERVICE
from tests.support.server_process import ServerProcess, server_process

ONE_REQUEST = [method.name for method in SERVICE.methods if not method.client_streaming]
METHODS = [f"/{SERVICE.full_name}/{name}" for name in ONE_REQUEST] + [
    "/grpc.health.v1.Health/Check"
]
#: Answers of 2.1 MB.
LARGE = positives(*(ids(*[1] * 2**17, width=2) for _ in range(3)))

#: 12 KB, of which many fit into what may be unanswered.
MIDDLING = positives(*(ids(*[1] * 1000) for _ in range(3)))


@pytest.mark.parametrize("path", METHODS)
def test_a_call_without_its_request_is_refused_at_once(channel: grpc.Channel, path: str):
    call = channel.stream_stream(path)(iter([]), timeout=TIMEOUT)
    code, reason, metadata, _ = refusal(call)
    assert (code, reason) == (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER")
    assert metadata == {"value": "nothing", "expected": "one request"}


@pytest.mark.parametrize("path", METHODS)
def test_a_call_with_two_requests_is_refused(channel: grpc.Channel, path: str):
    call = channel.stream_stream(path)(iter([b"", b""]), timeout=TIMEOUT)
    code, reason, metadata, _ = refusal(call)
    assert (code, reason) == (CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER")
    assert metadata["expected"] == "one request"


def test_500_calls_without_a_request_hold_up_no_drain():
    with (
        server_process("--drain-seconds", "28") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        paths = [METHODS[number % len(METHODS)] for number in range(500)]
        half_closed = [channel.stream_stream(path)(iter([]), timeout=60) for path in paths]
        silent = [
            channel.stream_stream(path)(iter(waiting.get, None), timeout=60) for path in paths[:100]
        ]
        for call in half_closed:
            assert refusal(call)[1] in ("STREAM_OUT_OF_ORDER", "TOO_MANY_STREAMS")
        # Calls of a connection begin in order, so the silent ones have when this one is answered.
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status
        begin = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begin < 20
        for call in silent:
            assert refusal(call)[1] == "DRAINING"
        for _ in silent:
            waiting.put(None)


class Sender:
    """Sends all before it reads, as the simplest client does; each send waits for room."""

    def __init__(self, channel: grpc.Channel, requests: Iterable[Any]) -> None:
        self.sent = threading.Event()
        self._requests = requests
        self.answers: Any = SamplerServiceStub(channel).Sample(self._send(), timeout=120)

    def _send(self) -> Iterator[Any]:
        # gRPC takes the next one when the one before is on its way.
        yield from self._requests
        self.sent.set()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[ServerProcess]:
    with server_process("--threads", "1") as running:
        yield running


def channel_to(server: ServerProcess) -> grpc.Channel:
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
    return grpc.insecure_channel(server.target, options)


def test_a_client_that_reads_when_all_is_sent_gets_all_answers_within_the_bounds(
    one_thread: ServerProcess,
):
    requests = [configuration(), *[LARGE] * 20]  # 15 MB
    with channel_to(one_thread) as channel:
        sender = Sender(channel, requests)
        assert sender.sent.wait(60), "the client can't send, as the server does not read"
        answers = list(sender.answers)
    assert len(answers) == len(requests)
    assert len({answer.batch.replaced.data for answer in answers[1:]}) == 1


@pytest.mark.parametrize(
    ("requests", "field", "limit"),
    [([LARGE] * 64, "bytes", "16777216"), ([MIDDLING] * 1000, "messages", "64")],
    ids=["bytes", "messages"],
)
def test_a_client_that_sends_more_than_that_before_it_reads_is_told(
    one_thread: ServerProcess, requests: list[Any], field: str, limit: str
):
    with channel_to(one_thread) as channel:
        sender = Sender(channel, [configuration(), *[LARGE] * 3, *requests])
        assert sender.sent.wait(60), "the client can't send, as the server does not read"
        code, reason, metadata, details = refusal(sender.answers)
    assert (code, reason) == (CODE.FAILED_PRECONDITION, "TOO_MANY_UNANSWERED")
    assert (metadata["resource"], metadata["limit"]) == (field, limit)
    assert "read answers before you send more" in details


def test_answers_before_the_refusal_arrive(one_thread: ServerProcess):
    with channel_to(one_thread) as channel:
        sender = Sender(channel, [configuration(), *[LARGE] * 64])
        assert sender.sent.wait(60)
        assert next(sender.answers).HasField("configured")
        first = next(sender.answers).batch
        assert np.frombuffer(first.replaced.data, np.uint16).shape == (2**19,)
        assert refusal(sender.answers)[1] == "TOO_MANY_UNANSWERED"


def test_memory_for_unanswered_messages_is_bounded(one_thread: ServerProcess):
    with channel_to(one_thread) as channel:
        before = one_thread.resident_bytes
        senders = [Sender(channel, [configuration(), *[LARGE] * 20]) for _ in range(16)]
        for sender in senders:
            assert sender.sent.wait(100)
        # 16 times 15 MB were sent; 64 MiB and what gRPC itself holds are kept.
        assert one_thread.resident_bytes - before < 400 * 2**20
        ends = set()
        for sender in senders:
            try:
                ends.add(len(list(sender.answers)))
            except grpc.RpcError as error:
                ends.add(error.code())
        assert ends <= {21, CODE.FAILED_PRECONDITION}


def test_a_stuck_stream_does_not_hold_up_a_drain():
    with server_process("--drain-seconds", "3") as server, channel_to(server) as channel:
        sender = Sender(channel, [configuration(), *[LARGE] * 64])
        assert sender.sent.wait(60)
        begin = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begin < 25


def test_a_client_that_went_on_sending_after_a_long_silence_hears_why_the_stream_ended():
    def requests() -> Iterator[Any]:
        yield from [configuration(), *[LARGE] * 3]
        time.sleep(4)
        yield from [LARGE] * 40

    with server_process("--idle-timeout", "1") as server, channel_to(server) as channel:
        sender = Sender(channel, requests())
        assert sender.sent.wait(60), "the client can't send, as the server does not read"
        assert refusal(sender.answers)[1] == "STREAM_IDLE"
