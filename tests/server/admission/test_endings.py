"""Every call ends with a status that has a reason, however it ends on the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.streams import OpenStreams
from negserve_server.config.limits import Limits
from negserve_server.service import make_handler
from tests.server.messages import CODE, TIMEOUT, refusal

#: More than a client takes that has asked for nothing.
LARGE = pb.GetVocabularyResponse(labels=["x" * 2**21])


class Servicer:
    """Ends ``GetVocabulary`` in a given way."""

    def __init__(self, method: Callable[[Any], AsyncIterator[Any]]) -> None:
        self.get_vocabulary = method

    def __getattr__(self, name: str) -> Any:
        return self.get_vocabulary


@contextmanager
def serving(
    method: Callable[[Any], AsyncIterator[Any]], *, idle_timeout: float = TIMEOUT
) -> Iterator[tuple[str, threading.Event]]:
    """Serve; yield the address, and an event that is set when a call's handler has ended."""
    started, ended, stop = threading.Event(), threading.Event(), asyncio.Event()
    target = []
    loop = asyncio.new_event_loop()

    class Streams(OpenStreams):
        @contextmanager
        def admit(self, *arguments: Any, **options: Any) -> Iterator[None]:
            try:
                with super().admit(*arguments, **options):
                    yield
            finally:
                ended.set()

    async def serve() -> None:
        server = grpc.aio.server()
        streams = Streams(Limits(idle_timeout=idle_timeout))
        server.add_generic_rpc_handlers((make_handler(Servicer(method), streams),))  # type: ignore[arg-type]
        target.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        sweeper = asyncio.create_task(streams.sweep())
        started.set()
        await stop.wait()
        sweeper.cancel()
        await server.stop(None)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(20)
    try:
        yield target[0], ended
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


async def cancelled_at_once(_: object) -> AsyncIterator[pb.GetVocabularyResponse]:
    raise asyncio.CancelledError
    yield


async def cancelled_by_another(_: object) -> AsyncIterator[pb.GetVocabularyResponse]:
    """Wait for a future that another task cancels."""
    loop = asyncio.get_running_loop()
    shared: asyncio.Future[None] = loop.create_future()
    loop.call_soon(shared.cancel)
    yield pb.GetVocabularyResponse()
    await shared


async def broken_below(_: object) -> AsyncIterator[pb.GetVocabularyResponse]:
    yield pb.GetVocabularyResponse()
    raise grpc.aio.InternalError("what gRPC says of a call that is over, or that is used wrongly")


@pytest.mark.parametrize("method", [cancelled_at_once, cancelled_by_another, broken_below])
def test_a_handler_that_ends_before_its_client_has_a_reason(
    method: Callable[[Any], AsyncIterator[Any]], caplog: pytest.LogCaptureFixture
):
    with serving(method) as (target, _), grpc.insecure_channel(target) as channel:
        answers = SamplerServiceStub(channel).GetVocabulary(
            pb.GetVocabularyRequest(), timeout=TIMEOUT
        )
        code, reason, *_ = refusal(answers)
    assert (code, reason) == (CODE.INTERNAL, "INTERNAL_FAULT")
    assert [record for record in caplog.records if record.exc_info]


def test_a_client_that_cancels_is_no_fault(caplog: pytest.LogCaptureFixture):
    async def waits(_: object) -> AsyncIterator[pb.GetVocabularyResponse]:
        yield pb.GetVocabularyResponse()
        await asyncio.Event().wait()

    with serving(waits) as (target, ended), grpc.insecure_channel(target) as channel:
        answers = SamplerServiceStub(channel).GetVocabulary(
            pb.GetVocabularyRequest(), timeout=TIMEOUT
        )
        next(answers)
        answers.cancel()
        assert ended.wait(TIMEOUT)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_call_ended_before_its_client_took_the_first_answer_tells_why():
    async def large(_: object) -> AsyncIterator[pb.GetVocabularyResponse]:
        yield LARGE

    async def read_late(target: str, ended: threading.Event) -> grpc.aio.AioRpcError:
        # gRPC would take more and more of what nobody reads, to learn how fast the network is.
        options = [("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            answers: Any = SamplerServiceStub(channel).GetVocabulary(
                pb.GetVocabularyRequest(), timeout=TIMEOUT
            )
            await asyncio.to_thread(ended.wait, TIMEOUT)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in answers:
                    pass
            return caught.value

    with serving(large, idle_timeout=0.3) as (target, ended):
        error = asyncio.run(read_late(target, ended))
    assert error.code() is CODE.DEADLINE_EXCEEDED
    assert "no message for 0.3 seconds" in str(error.details())
