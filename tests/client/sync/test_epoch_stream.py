"""An epoch on the client: reading ahead, its end, and servers that misbehave."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from negserve import (
    Client,
    ClosedError,
    EpochConfig,
    InvalidRequestError,
    SamplerConfig,
    ServerFaultError,
    UnavailableError,
)
from negserve._protocol.epoch_progress import EpochProgress
from negserve._sync.epoch_stream import _Reader
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import (
    SamplerServiceServicer,
    add_SamplerServiceServicer_to_server,
)
from tests.support.answers import described, filled_in

SAMPLER = SamplerConfig(num_negs_per_pos=3, corruption_scheme=("tail",))
NUM_BATCHES = 10


def batch_at(position: int) -> pb.EpochBatch:
    """Return a batch of one positive."""
    one = pb.Ids(data=b"\x01", width=1)
    return pb.EpochBatch(
        next_start=position + 1,
        positives=pb.Triples(heads=one, relations=one, tails=one),
        negatives=pb.CorruptedBatch(
            position=position, num_positives=1, replaced=pb.Ids(data=b"\2\3\4", width=1)
        ),
    )


class Scripted(SamplerServiceServicer):
    """Answers each ``SampleEpoch`` by the next part of a script; repeats the last part.

    :ivar starts: where the requests began
    :ivar ended: released when a call of it ends
    """

    def __init__(self) -> None:
        self.script: list[Callable[[int, grpc.ServicerContext], Iterator[Any]]] = []
        self.starts: list[int] = []
        self.epochs: list[int] = []
        self.ended = threading.Semaphore(0)

    def GetDataset(self, request, context):  # type: ignore[no-untyped-def]
        return described(request.dataset, NUM_BATCHES)

    def SampleEpoch(self, request, context):  # type: ignore[no-untyped-def]
        self.starts.append(request.start)
        self.epochs.append(request.epoch)
        context.add_callback(self.ended.release)
        part = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        yield from part(request.start, context)


def configured(start: int) -> pb.SampleEpochResponse:
    return pb.SampleEpochResponse(
        configured=pb.EpochConfigured(
            fingerprint=described("x", NUM_BATCHES).dataset.fingerprint,
            sampler=filled_in(SAMPLER),
            num_positives=NUM_BATCHES,
            num_batches=NUM_BATCHES - start,
        )
    )


def some(count: int) -> Callable[[int, grpc.ServicerContext], Iterator[pb.SampleEpochResponse]]:
    """End the stream with OK after some batches, or at the epoch's end."""

    def part(start: int, _: grpc.ServicerContext) -> Iterator[pb.SampleEpochResponse]:
        yield configured(start)
        for position in range(start, min(start + count, NUM_BATCHES)):
            yield pb.SampleEpochResponse(batches=pb.EpochBatches(batches=[batch_at(position)]))

    return part


def nothing(start: int, context: grpc.ServicerContext) -> Iterator[pb.SampleEpochResponse]:
    """End the stream with OK before any answer."""
    yield from ()


def silence(start: int, context: grpc.ServicerContext) -> Iterator[pb.SampleEpochResponse]:
    """Send nothing until the client leaves."""
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(60)
    yield from ()


def failure(
    code: grpc.StatusCode, reason: str = ""
) -> Callable[..., Iterator[pb.SampleEpochResponse]]:
    """Fail after two batches: with a reason, as a server, or without, as a proxy."""

    def part(start: int, context: grpc.ServicerContext) -> Iterator[pb.SampleEpochResponse]:
        yield from some(2)(start, context)
        if reason:
            context.abort_with_status(rpc_status.to_status(status_of(code, reason)))
        context.abort(code, "as the script says")

    return part


def status_of(
    code: grpc.StatusCode, reason: str, domain: str = "negserve.dev"
) -> status_pb2.Status:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    return status_pb2.Status(code=code.value[0], message="as the script says", details=[info])


@pytest.fixture
def scripted() -> Iterator[tuple[Scripted, str]]:
    servicer = Scripted()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_SamplerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def positions(stream: Any) -> list[int]:
    return [batch.negatives.position for batch in stream]


def open_stream(client: Client, **options: Any) -> Any:
    return client.triples_factory("x").epochs(SAMPLER, EpochConfig(batch_size=1), **options)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_is_read_ahead_than_asked_for(
    scripted: tuple[Scripted, str], prefetch: int, monkeypatch: pytest.MonkeyPatch
):
    servicer, target = scripted
    servicer.script = [some(NUM_BATCHES)]
    decoded = threading.Semaphore(0)
    take = EpochProgress.take

    def counting(progress: EpochProgress, message: Any) -> Any:
        item = take(progress, message)
        if item is not None:
            decoded.release()
        return item

    monkeypatch.setattr(EpochProgress, "take", counting)
    with Client(target, timeout=5) as client:
        batches = iter(open_stream(client, prefetch=prefetch))
        next(batches)
        # The one that was taken, and those in the queue.
        for _ in range(1 + prefetch):
            assert decoded.acquire(timeout=5)
        assert not decoded.acquire(timeout=0.3)
        next(batches)
        assert decoded.acquire(timeout=5)
        assert not decoded.acquire(timeout=0.3)
        batches.close()


def test_no_prefetch_is_refused(scripted: tuple[Scripted, str]):
    with Client(scripted[1]) as client, pytest.raises(InvalidRequestError, match="prefetch=0"):
        open_stream(client, prefetch=0)


def test_streams_that_end_in_order_are_opened_again_where_they_were(
    scripted: tuple[Scripted, str],
):
    servicer, target = scripted
    servicer.script = [some(3)]
    with Client(target, timeout=5) as client:
        assert positions(open_stream(client)) == list(range(NUM_BATCHES))
    assert servicer.starts == [0, 3, 6, 9]


def test_streams_that_break_are_opened_again_where_they_were(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [failure(grpc.StatusCode.UNAVAILABLE), nothing, some(1), some(99)]
    with Client(target, timeout=5) as client:
        assert positions(open_stream(client)) == list(range(NUM_BATCHES))
    assert servicer.starts == [0, 2, 2, 3]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_a_status_without_a_reason_is_retried(
    scripted: tuple[Scripted, str], code: grpc.StatusCode
):
    servicer, target = scripted
    servicer.script = [failure(code), some(99)]
    with Client(target, timeout=5) as client:
        assert positions(open_stream(client)) == list(range(NUM_BATCHES))
    assert servicer.starts == [0, 2]


def test_the_error_after_retries_has_the_last_message(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [
        lambda start, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "RBAC")
    ]
    with (
        Client(target, timeout=5, patience=0.3) as client,
        pytest.raises(UnavailableError, match=r"a proxy.*: RBAC \(UNAUTHENTICATED\).*given up aft"),
    ):
        positions(open_stream(client))


def test_a_server_that_ends_streams_without_a_batch_is_unavailable(
    scripted: tuple[Scripted, str],
):
    servicer, target = scripted
    for script in (nothing, some(0)):
        servicer.script = [script]
        servicer.starts.clear()
        begin = time.monotonic()
        with (
            Client(target, timeout=5, patience=0.5) as client,
            pytest.raises(UnavailableError, match="ended without a batch"),
        ):
            positions(open_stream(client))
        assert time.monotonic() - begin < 5
        assert len(servicer.starts) < 20  # with a pause between them


def test_a_fault_of_the_server_is_told_at_once(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [failure(grpc.StatusCode.INTERNAL, "INTERNAL_FAULT")]
    with Client(target, timeout=5) as client:
        stream = open_stream(client)
        batches = iter(stream)
        assert positions(itertools.islice(batches, 2)) == [0, 1]
        with pytest.raises(ServerFaultError, match="as the script says"):
            next(batches)
        assert stream.state_dict() == {"epoch": 0, "start": 2}
    assert servicer.starts == [0]


def test_closing_ends_a_call_that_waits(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [some(1), silence]
    with Client(target, timeout=60) as client:
        batches = iter(open_stream(client))
        next(batches)
        begin = time.monotonic()
        batches.close()
        assert time.monotonic() - begin < 2
    assert not [t for t in threading.enumerate() if t.name == "negserve-epoch"]


def test_leaving_a_stream_does_not_leave_its_replica(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [some(1), silence]
    with Client([target, "localhost:1"], timeout=60) as client:
        batches = iter(open_stream(client))
        next(batches)
        batches.close()
        assert client.target == target


def test_closing_at_any_moment_ends_the_reader(scripted: tuple[Scripted, str]):
    """Also between the reader's decision to call and its call."""
    servicer, target = scripted
    servicer.script = [silence]
    with Client(target, timeout=60) as client:
        connection, open_call = client._transport, client._transport.open_busy
        opens, goes_on = threading.Event(), threading.Event()

        def late_open(*arguments: Any) -> Any:
            opens.set()
            goes_on.wait(10)
            return open_call(*arguments)

        stream = open_stream(client)
        connection.open_busy = late_open  # type: ignore[method-assign]
        reader = _Reader(connection, stream._progress(), 1, stream)
        assert opens.wait(5)
        closing = threading.Thread(target=reader.close)
        closing.start()
        while reader._is_wanted:
            time.sleep(0.001)
        goes_on.set()
        closing.join(5)
        assert not closing.is_alive()


def test_a_closed_client_ends_its_streams(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [some(1), silence]
    client = Client(target, timeout=60)
    batches = iter(open_stream(client))
    next(batches)
    threading.Timer(0.1, client.close).start()
    with pytest.raises(ClosedError):
        next(batches)
