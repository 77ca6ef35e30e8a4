"""One open call: parsed requests, flow-controlled answers, and an orderly end."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from negserve_server.access.caller import CALLER
from negserve_server.access.callers_file import ANYBODY
from negserve_server.access.relayed_call import RelayedCall, relayed_call
from negserve_server.access.usage import USE, CallUse
from negserve_server.admission.message_values import count_values
from negserve_server.config.limits import MAX_REQUEST_VALUES
from negserve_server.errors import InvalidInput, Refusal
from negserve_server.logs.call import new_call_id
from negserve_server.metrics.call_meter import NO_CALLS, CallMeter

_Request = TypeVar("_Request", bound=Message)
_Result = TypeVar("_Result")

#: Bytes of a request above which it is parsed in a thread.
_LARGE_REQUEST = 256 * 1024
#: Metadata that say of which trace a call is (W3C Trace Context).
_TRACE_KEYS = frozenset({"traceparent", "tracestate"})


def parse(message_class: type[_Request], data: bytes) -> _Request:
    """Parse a message.

    :raises InvalidInput: with ``MALFORMED_MESSAGE`` if the bytes are not that message
    """
    try:
        return message_class.FromString(data)
    except DecodeError as error:
        raise _malformed(message_class, data, error) from error


def _parse_large(message_class: type[_Request], data: bytes) -> _Request:
    """Parse a message if it is not made of too many values.

    :raises Refusal: as :func:`parse`, and with ``LIMIT_EXCEEDED``
    """
    try:
        num_values = count_values(message_class.DESCRIPTOR, data, MAX_REQUEST_VALUES)
    except ValueError as error:
        raise _malformed(message_class, data, error) from error
    if num_values > MAX_REQUEST_VALUES:
        raise Refusal(
            f"a message of {len(data)} bytes holds more than {MAX_REQUEST_VALUES} values; send "
            f"labels in several messages, and anything else once",
            reason="LIMIT_EXCEEDED",
            resource="values",
            value=num_values,
            limit=MAX_REQUEST_VALUES,
        )
    return parse(message_class, data)


def _malformed(message_class: type[Message], data: bytes, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"{len(data)} bytes are not a {message_class.DESCRIPTOR.full_name}: {error}",
        reason="MALFORMED_MESSAGE",
        value=message_class.DESCRIPTOR.full_name,
        complaint=error,
    )


class _Wait(Enum):
    """What a stream waits for."""

    REQUEST = auto()
    ROOM = auto()  # for the client to take an answer
    EVENT = auto()  # for something in the server
    TURN = auto()  # for the caller's rate to allow more


class ServerStream(Generic[_Request]):
    """One open call.

    :meth:`end` ends it: when the server drains, the client is silent for too long, or another call
    reaches a limit. A stream that waits ends at once, one that works ends after its answer.

    Requests are read one at a time. Only while an answer waits for its client, requests are read
    ahead, see :meth:`read_ahead`: so a client that sends everything before it reads is not stuck.

    :param meter: counts its bytes
    :param rpc: name of the method
    :ivar use: what it uses
    :ivar connection: identifies the connection
    :ivar caller: who calls
    :ivar id: of the call, in the log
    :ivar task: done when all answers and the status are handed to gRPC
    :ivar num_bytes_ahead: bytes of requests that were read ahead
    :ivar idle_timeout: seconds that this stream may be silent, if fewer than others
    :ivar is_watch: whether it watches the server's health
    :ivar outlives_drain: whether an operator's drain leaves it open
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        message_class: type[_Request],
        meter: CallMeter = NO_CALLS,
        rpc: str = "",
    ) -> None:
        self._meter = meter
        self._context = context
        self._message_class = message_class
        relayed = relayed_call(context.invocation_metadata())
        self.connection = _connection(context) if relayed is None else relayed.connection
        self.id = new_call_id() if relayed is None else relayed.call
        self.caller = CALLER.get()
        name = "" if self.caller.name == ANYBODY else self.caller.name
        self.use = CallUse(rpc, name, self.connection)
        USE.set(self.use)
        self.idle_timeout = math.inf
        self.is_watch = False
        self.outlives_drain = False
        task = asyncio.current_task()
        assert task is not None, "gRPC answers each call in a task of its own"
        self.task: asyncio.Task[Any] = task
        self._ended_by: Refusal | InvalidInput | None = None
        self._is_cut = False
        self._is_stuck = False
        self._waits_for: _Wait | None = None
        self._waiting_since = 0.0
        self._heard_at = 0.0
        self._is_half_closed = False
        self._ahead: deque[bytes] = deque()
        self.num_bytes_ahead = 0
        self._reader: asyncio.Task[Any] | None = None
        self._is_read_elsewhere = False
        self._has_begun = False

    async def read(self) -> _Request | None:
        """Wait for the next request; None after the last.

        :raises Refusal: if its bytes are not the message, or :meth:`end` was called
        """
        data = await self._receive()
        if data is None:
            return None
        self._meter.received(len(data))
        self.use.num_requests += 1
        if len(data) <= _LARGE_REQUEST:
            return parse(self._message_class, data)
        return await asyncio.to_thread(_parse_large, self._message_class, data)

    async def read_only(self) -> _Request:
        """Wait for the only request, and for the end of the requests.

        :raises InvalidInput: if there is none, or a second one
        """
        request = await self.read()
        if request is None or await self.read() is not None:
            raise InvalidInput(
                f"expected one request, got {'none' if request is None else 'a second one'}; send "
                f"one, then half-close",
                reason="STREAM_OUT_OF_ORDER",
                value="nothing" if request is None else "a second message",
                expected="one request",
            )
        return request

    async def _receive(self) -> bytes | None:
        """Wait for the next request's bytes; None after the last."""
        if self._ended_by is not None:
            raise self._ended_by
        if self._reader is not None:
            # gRPC allows one read at a time, and a read may not be abandoned.
            if not self._ahead:
                await self._wait(asyncio.wait([self._reader]), _Wait.REQUEST)
            if self._reader.done():
                reader, self._reader = self._reader, None
                reader.result()
        if self._ahead:
            data = self._ahead.popleft()
            self.num_bytes_ahead -= len(data)
            return data
        if self._is_half_closed:
            return None
        received = await self._wait(self._context.read(), _Wait.REQUEST)
        if received is grpc.aio.EOF:
            self._is_half_closed = True
            return None
        return received  # type: ignore[no-any-return]

    @property
    def passed_on(self) -> tuple[tuple[str, str], ...]:
        """Metadata with which another worker takes a call for one of this client and caller."""
        metadata = self._context.invocation_metadata() or ()
        trace = [(key, str(value)) for key, value in metadata if key in _TRACE_KEYS]
        return (*RelayedCall(self.caller.name, self.connection, self.id).metadata(), *trace)

    def next_request(self) -> asyncio.Task[Any]:
        """Begin to read the bytes of the next request, of which one may be read at a time."""
        self._is_read_elsewhere = True
        reader = self._reader = asyncio.create_task(self._context.read())
        return reader

    async def write(self, message: Message | bytes) -> None:
        """Send an answer, or its bytes, once the client has room for it.

        :raises Refusal: if :meth:`end` was called
        """
        if not self._has_begun:
            # Otherwise gRPC sends them with the first answer, and again with a status that comes
            # while that answer waits: that fails, and the client would get no status.
            await self._context.send_initial_metadata(())
            self._has_begun = True
        data = message if isinstance(message, bytes) else message.SerializeToString()
        self._meter.sent(len(data))
        await self._wait(self._context.write(data), _Wait.ROOM)
        if self._ended_by is not None:
            raise self._ended_by

    async def rest(self, event: Awaitable[_Result]) -> _Result:
        """Wait for something in the server; the client is not considered silent meanwhile.

        :raises Refusal: if :meth:`end` was called
        """
        return await self._wait(event, _Wait.EVENT)

    async def spend(self, num_negatives: int) -> None:
        """Wait until the caller's rate allows so many more negatives.

        :raises Refusal: with ``QUOTA_EXCEEDED`` if that takes too long, or if :meth:`end` was
            called
        """
        rate = self.caller.rate
        if rate is None:
            return
        seconds = rate.take(num_negatives)
        if seconds:
            try:
                await self._wait(asyncio.sleep(seconds), _Wait.TURN)
            except BaseException:
                rate.give_back(num_negatives)
                raise

    async def _wait(self, what: Awaitable[_Result], kind: _Wait) -> _Result:
        if self._ended_by is not None:
            if asyncio.iscoroutine(what):
                what.close()
            raise self._ended_by
        self._waiting_since = time.monotonic()
        self._waits_for = kind
        try:
            return await what
        except asyncio.CancelledError:
            if not self._is_cut or self._ended_by is None:
                raise
            self._is_stuck = kind is _Wait.ROOM
            raise self._ended_by from None
        finally:
            self._waits_for = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the client or the stopping server cancelled it."""
        return not self._is_cut and self.task.cancelling() > 0

    @property
    def is_resting(self) -> bool:
        """Whether the stream waits for something in the server."""
        return self._waits_for is _Wait.EVENT

    @property
    def silent_seconds(self) -> float:
        """Seconds since the client sent or took something; 0 while the stream works."""
        if self._waits_for in (None, _Wait.TURN):
            return 0.0
        return time.monotonic() - max(self._waiting_since, self._heard_at)

    @property
    def idle_seconds(self) -> float:
        """Seconds that the stream has been waiting for its client; 0 if it is not."""
        return 0.0 if self._waits_for is _Wait.EVENT else self.silent_seconds

    @property
    def stuck_seconds(self) -> float:
        """Seconds that an answer has been waiting for its client; 0 if none is."""
        if self._waits_for is not _Wait.ROOM:
            return 0.0
        return time.monotonic() - self._waiting_since

    @property
    def num_messages_ahead(self) -> int:
        """Number of requests read ahead."""
        return len(self._ahead)

    def read_ahead(self, check: Callable[[], None]) -> None:
        """Read requests while an answer waits for its client, unless this is being done already.

        :param check: called after each of them
        """
        if self._is_half_closed or self._is_read_elsewhere:
            return
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_ahead(check))

    async def _read_ahead(self, check: Callable[[], None]) -> None:
        while self._is_stuck or self._waits_for is _Wait.ROOM:
            data = await self._context.read()
            if data is grpc.aio.EOF:
                self._is_half_closed = True
                return
            self._heard_at = time.monotonic()
            # An ended stream reads and drops requests, so that the client comes to read the status.
            if self._ended_by is None:
                self._ahead.append(data)
                self.num_bytes_ahead += len(data)
                check()

    def discard(self) -> None:
        """Read and drop requests while the client has not taken the last answer.

        It gets the status only after that answer, and may send more before it reads.
        """
        self._drop()
        if self._is_stuck:
            self.read_ahead(lambda: None)

    def refuse(self, error: Refusal | InvalidInput) -> None:
        """End the stream with an error once its client has taken the current answer.

        Requests that were read ahead are dropped.
        """
        if self._ended_by is None:
            self._ended_by = error
        self._drop()

    def _drop(self) -> None:
        self._ahead.clear()
        self.num_bytes_ahead = 0

    def end(self, error: Refusal | InvalidInput) -> asyncio.Task[Any]:
        """End the stream with an error: at once if it waits, else after the current answer.

        :return: its task
        """
        if self._ended_by is None:
            self._ended_by = error
        if self._waits_for is not None and not self._is_cut:
            self._is_cut = True
            self.task.cancel()
        return self.task

    def close(self) -> None:
        """Stop reading, and drop what was read ahead."""
        self._drop()
        if self._reader is not None:
            self._reader.cancel()
            self._reader.add_done_callback(lambda reader: reader.cancelled() or reader.exception())


def _connection(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    peer = context.peer()
    # gRPC has no name for the peer of a unix socket.
    return "unix" if peer.startswith("unix") else peer
