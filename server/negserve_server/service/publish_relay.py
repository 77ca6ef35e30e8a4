"""Passes ``Publish`` calls on to the worker that takes graphs for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.server_stream import ServerStream
from negserve_server.admission.status import DETAILS_KEY, RelayedStatus
from negserve_server.config.limits import MAX_REQUEST_BYTES

_METHOD = "/negserve.v1.SamplerService/Publish"
_OPTIONS = (
    # It may be started again; then it is back within a second or so.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
)


class PublishRelay:
    """Passes calls on, one after the other message, as they are.

    One worker takes all graphs, so there is one upload and one build for all who publish the same,
    and its limits are those of the whole server.

    :param address: ``unix:PATH`` of that worker
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._publish: Any = self._channel.stream_stream(_METHOD)

    async def publish(self, stream: ServerStream[pb.PublishRequest]) -> AsyncGenerator[bytes, None]:
        """Answer a ``Publish`` stream with what that worker answers.

        :raises RelayedStatus: with the status that it ends with, unless that is OK
        """
        call = self._publish(metadata=stream.passed_on)
        request: asyncio.Task[Any] | None = stream.next_request()
        answer: asyncio.Task[Any] = asyncio.create_task(call.read())
        try:
            while True:
                waits = [answer] if request is None else [answer, request]
                await stream.rest(asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED))
                if request is not None and request.done():
                    if request.result() is grpc.aio.EOF:
                        await call.done_writing()
                        request = None
                    else:
                        await call.write(request.result())
                        request = stream.next_request()
                if answer.done():
                    if answer.result() is grpc.aio.EOF:
                        break
                    yield answer.result()
                    answer = asyncio.create_task(call.read())
            code = await call.code()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            code = await call.code()
        finally:
            answer.cancel()
            call.cancel()
        if code is not grpc.StatusCode.OK:
            details = dict(await call.trailing_metadata() or ()).get(DETAILS_KEY)
            raise RelayedStatus(
                code, await call.details(), () if details is None else ((DETAILS_KEY, details),)
            )

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
