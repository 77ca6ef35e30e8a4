"""Calls that suspend their task: channels of an event loop, a time limit for each message."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import grpc

from negserve._transport import credentials
from negserve._transport.channels import open_stub, options_to
from negserve._transport.names import RESOLVER_OPTIONS
from negserve._transport.statuses import closed, stalled
from negserve._transport.transport import ServerCall, Transport
from negserve._transport.worker_pool import WorkerPool
from negserve.aio.closed_loops import handle_late_events

_T = TypeVar("_T")


class _OpenChannel(NamedTuple):
    """A channel to a replica, and the stub of its calls."""

    target: str
    channel: grpc.aio.Channel
    stub: Any


@dataclass
class _LoopState:
    """What a transport has in one event loop.

    :ivar pools: connections to each replica that was needed, and its number of losses before
    :ivar is_closed: set when the client is closed
    :ivar calls: open calls, also those on channels to replicas that were left
    """

    pools: dict[str, tuple[int, WorkerPool[_OpenChannel]]] = field(default_factory=dict)
    is_closed: asyncio.Event = field(default_factory=asyncio.Event)
    calls: weakref.WeakSet[AsyncCall] = field(default_factory=weakref.WeakSet)

    async def close(self) -> None:
        self.is_closed.set()
        for call in list(self.calls):
            call.close()
        for _, pool in self.pools.values():
            for each in pool.channels:
                await each.channel.close()


class AsyncTransport(Transport):
    """Calls over channels that are opened on first use in each event loop.

    Parameters as of :class:`negserve._transport.transport.Transport`.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        timeout: float,
        patience: float | None = None,
        *,
        spread: bool = True,
    ) -> None:
        super().__init__(target, timeout, patience, spread=spread)
        self._lock = threading.Lock()  # loops may run in several threads
        self._states: dict[asyncio.AbstractEventLoop, _LoopState] = {}

    def _state(self) -> _LoopState:
        """Return the state of the running loop.

        :raises ClosedError: after :meth:`close`
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.is_closed:
                raise closed(self.replicas.target)
            state = self._states.get(loop)
            if state is None:
                for other in [other for other in self._states if other.is_closed()]:
                    del self._states[other]
                handle_late_events(loop)
                state = self._states[loop] = _LoopState()
            return state

    def _pool(self, target: str) -> WorkerPool[_OpenChannel]:
        pools, num_losses = self._state().pools, self.replicas.num_losses(target)
        opened = pools.get(target)
        if opened is None or opened[0] != num_losses:
            for gone in pools.keys() - {*self.replicas.members}:
                del pools[gone]
            opened = pools[target] = num_losses, WorkerPool(self._connect(target))
        return opened[1]

    def _open_calls(self) -> list[ServerCall]:
        return [call for call in list(self._state().calls) if call.is_active]

    def _connect(self, target: str) -> _OpenChannel:
        options = options_to(self.replicas.name_of(target))
        channel = credentials.open_channel(grpc.aio, target, options)
        return _OpenChannel(target, channel, open_stub(channel))

    async def _disconnect(self, channel: _OpenChannel) -> None:
        await channel.channel.close()

    async def _ask(
        self, channel: _OpenChannel, method: str, request: object, seconds: float
    ) -> tuple[str, bytes]:
        call = getattr(channel.stub, method)(request)
        return channel.target, await self.wait_for(call, seconds, channel.target)

    def _start(self, channel: _OpenChannel, method: str, request: object) -> AsyncCall:
        call = AsyncCall(self, channel, method, request)
        self._state().calls.add(call)
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

    def _drop(self, target: str) -> None:
        pass  # connections belong to their loops, which compare the number of losses

    async def _resolve(self, host: str, port: int, seconds: float) -> Sequence[tuple[Any, ...]]:
        resolve = asyncio.get_running_loop().getaddrinfo
        try:
            async with asyncio.timeout(seconds):
                return await resolve(host, port, **RESOLVER_OPTIONS)
        except (OSError, UnicodeError):  # a TimeoutError is an OSError
            return ()

    async def pause(self, seconds: float) -> None:
        """Wait; less if the client is closed meanwhile.

        :raises ClosedError: after :meth:`close`
        """
        is_closed = self._state().is_closed
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
            states, self._states = self._states, {}
        for loop, state in states.items():
            if loop is asyncio.get_running_loop():
                await state.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(state.close(), loop)


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
        super().__init__(channel, channel.target, method)
        self._transport = transport
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[Iterable[Any]] = asyncio.Queue()
        start = getattr(channel.stub, method)
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
        self._is_closed = True
        self._call.cancel()

    def __del__(self) -> None:
        # A sampler that is garbage frees its place on the server.
        if not (self._is_closed or self._loop.is_closed()):
            self._loop.call_soon_threadsafe(self._call.cancel)


async def _write_all(call: Any, queued: asyncio.Queue[Iterable[Any]]) -> None:
    # Readers of the call get its errors.
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        while True:
            for request in await queued.get():
                await call.write(request)
