"""One caller can't shut others out: open streams are limited, and silent ones are evicted."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from negserve import Client, EpochConfig, SamplerConfig
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, TIMEOUT, configuration, positives, refusal
from tests.support.server_process import server_process

#: A stream is silent after 10 seconds.
_LONG = 60


class Talk:
    """A ``Sample`` stream, message by message."""

    def __init__(self, channel: grpc.Channel, *, token: str = "", timeout: float = _LONG) -> None:
        self.requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
        metadata = [("authorization", f"Bearer {token}")] if token else None
        self.answers: Any = SamplerServiceStub(channel).Sample(
            iter(self.requests.get, None), timeout=timeout, metadata=metadata
        )

    def open(self) -> Talk:
        self.requests.put(configuration())
        assert next(self.answers).HasField("configured")
        return self

    def draw(self) -> None:
        self.requests.put(positives())
        assert next(self.answers).batch.num_positives == 1

    def close(self) -> None:
        self.requests.put(None)
        self.answers.cancel()


@contextmanager
def connections(target: str, count: int) -> Iterator[list[grpc.Channel]]:
    """Open channels with separate connections."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with ExitStack() as stack:
        yield [stack.enter_context(grpc.insecure_channel(target, options)) for _ in range(count)]


def test_one_connection_with_1024_silent_streams_shuts_nobody_out():
    with server_process() as server, connections(server.target, 1) as (greedy,):
        silent = [Talk(greedy, timeout=120) for _ in range(1024)]
        refused = [
            talk
            for talk in silent[512:]
            if refusal(talk.answers)[1:3]
            == (
                "TOO_MANY_STREAMS",
                {"resource": "max_streams_per_connection", "value": "512", "limit": "512"},
            )
        ]
        assert len(refused) == 512
        with Client(server.target, timeout=10, patience=10) as client:
            sampler = client.triples_factory("world").open_sampler()
            assert len(sampler.sample([[0, 0, 1]], 0).replaced) == 1
        for talk in silent:
            talk.close()


def test_places_of_a_token_are_bounded(tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.write_text("token-of-the-greedy\ntoken-of-the-modest\n")
    options = ("--token-file", str(tokens), "--max-streams-per-token", "3")
    with server_process(*options) as server, connections(server.target, 5) as channels:
        talks = [Talk(channel, token="token-of-the-greedy").open() for channel in channels[:3]]
        code, reason, metadata, said = refusal(
            Talk(channels[3], token="token-of-the-greedy").answers
        )
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert metadata == {
            "resource": "max_streams_per_token", "value": "3", "limit": "3", "caller": "line-1"
        }  # fmt: skip
        assert "3 streams of 'line-1' are open" in said
        assert "token-of-the-greedy" not in said
        talks.append(Talk(channels[4], token="token-of-the-modest").open())
        for talk in talks:
            talk.draw()
            talk.close()


def test_unix_sockets_count_as_one_connection(tmp_path: Path):
    listen = (f"unix:{tmp_path / 'socket'}",)
    options = ("--max-streams-per-connection", "2")
    with (
        server_process(*options, listen=listen) as server,
        connections(server.target, 3) as channels,
    ):
        talks = [Talk(channel).open() for channel in channels[:2]]
        _, reason, metadata, _ = refusal(Talk(channels[2]).answers)
        assert (reason, metadata["resource"]) == ("TOO_MANY_STREAMS", "max_streams_per_connection")
        for talk in talks:
            talk.close()


def test_the_silent_give_way_first_those_of_the_connection_with_most():
    options = ("--max-streams", "4")
    with server_process(*options) as server, connections(server.target, 3) as channels:
        alone = Talk(channels[0]).open()  # silent for longest
        busy = Talk(channels[1]).open()
        silent = [Talk(channels[1]).open() for _ in range(2)]
        code, reason, metadata, _ = refusal(Talk(channels[2]).answers)
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert metadata == {"resource": "max_streams", "value": "4", "limit": "4"}
        end = time.monotonic() + 11
        while time.monotonic() < end:
            busy.draw()
            time.sleep(0.2)
        newcomers = [Talk(channels[2]).open()]
        code, reason, metadata, details = refusal(silent[0].answers)
        assert (code, reason, metadata) == (
            CODE.DEADLINE_EXCEEDED,
            "STREAM_IDLE",
            {"limit": "10.0"},
        )
        assert "another caller reached the limit" in details
        newcomers.append(Talk(channels[2]).open())
        assert refusal(silent[1].answers)[1] == "STREAM_IDLE"
        alone.draw()
        busy.draw()
        for talk in (alone, busy, *newcomers):
            talk.close()


def test_clients_whose_streams_gave_way_notice_nothing():
    config = SamplerConfig(num_negs_per_pos=2000)
    epoch = EpochConfig(batch_size=64)  # 256 KB a batch, far more than what lies ready
    with (
        server_process("--max-streams", "2") as server,
        Client(server.target) as client,
        connections(server.target, 1) as (other,),
    ):
        factory = client.triples_factory("world")
        undisturbed = [
            batch.negatives.replaced.tobytes() for batch in factory.epochs(config, epoch)
        ]
        sampler = factory.open_sampler(seed=5)
        before = sampler.sample([[0, 0, 1]], 7).replaced.tolist()
        batches = iter(factory.epochs(config, epoch, prefetch=1))
        got = [next(batches).negatives.replaced.tobytes()]
        time.sleep(11)
        talks = [Talk(other).open() for _ in range(2)]
        for talk in talks:
            talk.close()
        assert sampler.sample([[0, 0, 1]], 7).replaced.tolist() == before
        got += [batch.negatives.replaced.tobytes() for batch in batches]
        assert got == undisturbed


def silent_call(channel: grpc.Channel, path: str) -> Callable[[], None]:
    """Open a call without a request; return the error that ends it."""
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = channel.stream_stream(path)(iter(requests.get, None), timeout=_LONG)

    def end() -> None:
        requests.put(None)
        call.cancel()

    return end


@pytest.mark.parametrize(
    "path",
    [
        "negserve.v1.SamplerService/GetDataset",
        "negserve.v1.SamplerService/GetVocabulary",
        "grpc.health.v1.Health/Check",
    ],
)
def test_calls_without_a_request_take_no_stream_and_give_way(path: str):
    with server_process("--max-streams", "4") as server, connections(server.target, 2) as channels:
        ends = [silent_call(channels[0], f"/{path}") for _ in range(4)]
        sampler = Talk(channels[1]).open()
        deadline = time.monotonic() + TIMEOUT
        stub = SamplerServiceStub(channels[1])
        while True:  # for some seconds they are not silent yet
            with contextlib.suppress(grpc.RpcError):
                assert stub.GetDataset(pb.GetDatasetRequest(dataset="world"), timeout=TIMEOUT)
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        sampler.draw()
        sampler.close()
        for end in ends:
            end()


def test_reflection_and_health_streams_count():
    with server_process("--max-streams", "3") as server, connections(server.target, 1) as (one,):
        watch = health_pb2_grpc.HealthStub(one).Watch(health_pb2.HealthCheckRequest())
        next(watch)
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        requests.put(reflection_pb2.ServerReflectionRequest(list_services=""))
        reflection = reflection_pb2_grpc.ServerReflectionStub(one)
        described = reflection.ServerReflectionInfo(iter(requests.get, None), timeout=_LONG)
        next(described)
        talk = Talk(one).open()
        assert refusal(Talk(one).answers)[1] == "TOO_MANY_STREAMS"
        requests.put(None)
        watch.cancel()
        talk.close()


def test_reflection_takes_no_name_of_a_megabyte():
    with server_process() as server, connections(server.target, 1) as (channel,):
        request = reflection_pb2.ServerReflectionRequest(file_by_filename="x" * 2**20)
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        code, reason, _, _ = refusal(stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT))
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
