"""Calls that suspend their task: one channel per event loop, a time limit for each message."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from negserve._transport import credentials
from negserve._transport.channels import CHANNEL_OPTIONS, open_stub
from negserve._transport.statuses import closed, stalled
from negserve._transport.transport import RetryBudget, ServerCall, Transport
from negserve.aio.closed_loops import handle_late_events

_T = TypeVar("_T")


@dataclass
class _OpenChannel:
    """An event loop's channel to the replica in use.

    :ivar num_lost: how many replicas were left when it was opened
    :ivar is_closed: set when the client is closed
    :ivar calls: open calls, also those on channels to replicas that were left
    """

    target: str
    num_lost: int
    channel: grpc.aio.Channel
    is_closed: asyncio.Event
    calls: weakref.WeakSet[AsyncCall]

    async def close(self) -> None:
        self.is_closed.set()
        for call in list(self.calls):
            call.close()
        await self.channel.close()


class AsyncTransport(Transport):
    """Calls over a channel that is opened on first use in each event loop.

    Parameters as of :class:`negserve._transport.transport.Transport`.
    """

    def __init__(
        self, target: str | Sequence[str], timeout: float, patience: float | None = None
    ) -> None:
        super().__init__(target, timeout, patience)
        self._lock = threading.Lock()  # loops may run in several threads
        self._channels: dict[asyncio.AbstractEventLoop, _OpenChannel] = {}

    def _open_channel(self) -> _OpenChannel:
        """Return the channel of the running loop.

        :raises ClosedError: after :meth:`close`
        """
        loop, replicas = asyncio.get_running_loop(), self.replicas
        with self._lock:
            if self.is_closed:
                raise closed(replicas.target)
            channel = self._channels.get(loop)
            if channel is None or channel.num_lost != replicas.num_lost:
                for other in [other for other in self._channels if other.is_closed()]:
                    del self._channels[other]
                if channel is None:
                    handle_late_events(loop)
                opened = credentials.open_channel(grpc.aio, replicas.target, CHANNEL_OPTIONS)
                channel = self._channels[loop] = _OpenChannel(
                    replicas.target,
                    replicas.num_lost,
                    opened,
                    asyncio.Event() if channel is None else channel.is_closed,
                    weakref.WeakSet() if channel is None else channel.calls,
                )
            return channel

    async def _ask(self, method: str, request: object, budget: RetryBudget) -> tuple[str, bytes]:
        channel = self._open_channel()
        call = getattr(open_stub(channel.channel), method)(request)
        return channel.target, await self.wait_for(call, budget.limit(), channel.target)

    def open(self, method: str, request: object = None) -> AsyncCall:
        """Open a stream on the replica in use.

        :param method: its name
        :param request: the only request; None for a method that takes a stream of them
        :raises ClosedError: after :meth:`close`
        """
        channel = self._open_channel()
        call = AsyncCall(self, channel, method, request)
        channel.calls.add(call)
        return call

    async def wait_for(self, answer: Awaitable[_T], seconds: float, target: str) -> _T:
        """Wait for something that a replica sends.

        :raises StalledError: if it does not arrive in time
        :raises NegserveError: as the server's status says
        """
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise stalled(target, seconds) from error
        except grpc.RpcError as error:
            raise self.error_of(error, target) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task was cancelled but the call below it: the channel was closed.
            raise self.cut_off(target, "with its connection") from None

    def _leave(self, target: str) -> None:
        with self._lock:
            self.replicas.leave(target)

    async def pause(self, seconds: float) -> None:
        """Wait; less if the client is closed meanwhile.

        :raises ClosedError: after :meth:`close`
        """
        is_closed = self._open_channel().is_closed
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await is_closed.wait()

    async def work(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that reads or writes files, in a thread."""
        return await asyncio.to_thread(function, *arguments)

    async def close(self) -> None:
        """Close all channels; calls under way raise an error."""
        with self._lock:
            self.is_closed = True
            channels, self._channels = self._channels, {}
        for loop, channel in channels.items():
            if loop is asyncio.get_running_loop():
                await channel.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(channel.close(), loop)


class AsyncCall(ServerCall):
    """An open call that suspends its task while it waits.

    :param transport: waits for its messages, and makes its errors
    :param channel: to the replica that answers
    :param method: name of the method
    :param request: the only request; None for a method that takes a stream of them
    """

    def __init__(
        self, transport: AsyncTransport, channel: _OpenChannel, method: str, request: Any = None
    ) -> None:
        super().__init__(channel.target, method)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._channel = channel.channel  # so that it is not garbage before the call is over
        self._requests: asyncio.Queue[Iterable[Any]] = asyncio.Queue()
        start = getattr(open_stub(self._channel), method)
        self._call = start(*([] if request is None else [request]))
        if request is None:
            # A task of our own: gRPC's would wait for ever if the call fails at once.
            writer = asyncio.create_task(_write_all(self._call, self._requests))
            self._call.add_done_callback(lambda _: writer.cancel())

    @property
    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return not self._call.done()

    def send_all(self, requests: Iterable[Any]) -> None:
        """Queue requests, without waiting; an iterator advances as they are sent."""
        self._requests.put_nowait(requests)

    async def _next(self, seconds: float) -> bytes | None:
        message = await self._transport.wait_for(self._call.read(), seconds, self.target)
        return None if message is grpc.aio.EOF else message

    def close(self) -> None:
        """End the call."""
        self._call.cancel()

    def __del__(self) -> None:
        # A sampler that is garbage frees its place on the server.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call.cancel)


async def _write_all(call: Any, queued: asyncio.Queue[Iterable[Any]]) -> None:
    # Readers of the call get its errors.
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        while True:
            for request in await queued.get():
                await call.write(request)
