"""One open stream of the server: parsed reads, and an end that comes in order."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from negserve_server.errors import InvalidInput

_Request = TypeVar("_Request", bound=Message)
_Result = TypeVar("_Result")


def parse(message_class: type[_Request], data: bytes) -> _Request:
    """Parse a message.

    :raises InvalidInput: with ``MALFORMED_MESSAGE`` if the bytes are not that message
    """
    try:
        return message_class.FromString(data)
    except DecodeError as error:
        raise InvalidInput(
            f"{len(data)} bytes are no {message_class.DESCRIPTOR.full_name}: {error}",
            reason="MALFORMED_MESSAGE",
            value=message_class.DESCRIPTOR.full_name,
            complaint=error,
        ) from error


class ServerStream(Generic[_Request]):
    """One open call: parsed reads, writes that wait for the client, and an end in order.

    A stream that waits for its client is ended through :meth:`end`, by a server that drains
    or a client that is silent for too long; one that works first gives its answer.

    :ivar idle_timeout: seconds that this one may be silent, where others have longer
    """

    def __init__(
        self, context: grpc.aio.ServicerContext[Any, Any], message_class: type[_Request]
    ) -> None:
        self._context = context
        self._message_class = message_class
        self.idle_timeout = math.inf
        task = asyncio.current_task()
        assert task is not None, "gRPC answers each call in a task of its own"
        self._task: asyncio.Task[Any] = task
        self._ended_by: InvalidInput | None = None
        self._waiting_since: float | None = None

    async def read(self) -> _Request | None:
        """Wait for the next request; None after the last.

        :raises InvalidInput: if its bytes are not the message, or :meth:`end` was called
        """
        data = await self._wait(self._context.read())
        if data is grpc.aio.EOF:
            return None
        return parse(self._message_class, data)

    async def write(self, message: Message) -> None:
        """Send an answer, once the client has room for it.

        :raises InvalidInput: if :meth:`end` was called
        """
        await self._wait(self._context.write(message))
        if self._ended_by is not None:
            raise self._ended_by

    async def _wait(self, what: Awaitable[_Result]) -> _Result:
        if self._ended_by is not None:
            if asyncio.iscoroutine(what):
                what.close()
            raise self._ended_by
        self._waiting_since = time.monotonic()
        try:
            return await what
        except asyncio.CancelledError:
            if self._ended_by is None:
                raise
            raise self._ended_by from None
        finally:
            self._waiting_since = None

    @property
    def idle_seconds(self) -> float:
        """How long the stream has been waiting for its client; 0 while it works."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def end(self, error: InvalidInput) -> asyncio.Task[Any]:
        """End the stream with an error: at once if it waits, else after the answer.

        Give the task that is done when the answer and the error are on their way.
        """
        if self._ended_by is None:
            self._ended_by = error
            if self._waiting_since is not None:
                self._task.cancel()
        return self._task
