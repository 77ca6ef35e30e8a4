"""One open call, whose messages come in time or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import grpc

from negserve._transport.open_call import OpenCall
from negserve._transport.parsing import parsed
from negserve._transport.replicas import Replicas

_T = TypeVar("_T")


class Call(OpenCall):
    """A call during whose waits other tasks go on.

    :param replicas: whose errors it has
    :param target: the replica that answers
    :param channel: to that replica; not closed before the call is over
    :param method: the stub's method
    :param name: the method's
    :param request: the only request; None for a method that takes a stream of them
    """

    def __init__(
        self,
        replicas: Replicas,
        target: str,
        channel: grpc.aio.Channel,
        method: Callable[[Any], Any],
        name: str,
        request: Any = None,
    ) -> None:
        super().__init__(replicas, target, name)
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._requests: asyncio.Queue[Iterable[Any]] = asyncio.Queue()
        self._call = method(*([] if request is None else [request]))
        if request is None:
            # Our own task, not grpc's: that one waits for ever if the call fails at once.
            writer = asyncio.create_task(_write_all(self._call, self._requests))
            self._call.add_done_callback(lambda _: writer.cancel())

    @property
    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return not self._call.done()

    def send_all(self, requests: Iterable[Any]) -> None:
        """Send requests, without waiting; each is made when it is its turn."""
        self._requests.put_nowait(requests)

    async def next(self, seconds: float) -> Any:
        """Wait for the next message; None after the last.

        :raises NegserveError: as :meth:`negserve._transport.open_call.OpenCall.next`
        """
        message = await in_time(self._call.read(), seconds, self._replicas, self.target)
        if message is grpc.aio.EOF:
            return None
        return parsed(message, self.target, self.method)

    def close(self) -> None:
        """End the call."""
        self._call.cancel()

    def __del__(self) -> None:
        # A sampler that nobody holds gives its place on the server back.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call.cancel)


async def in_time(answer: Awaitable[_T], seconds: float, replicas: Replicas, target: str) -> _T:
    """Wait for what a replica has to say.

    :raises StalledError: if it does not come in time
    :raises NegserveError: typed by what the server said
    """
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError as error:
        raise replicas.stalled(target, seconds) from error
    except grpc.RpcError as error:
        raise replicas.translate(error, target) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not this task was cancelled but the call below it: the channel was closed.
        raise (
            replicas.closed()
            if replicas.is_closed
            else replicas.ended(target, "with its connection")
        ) from None


async def _write_all(call: Any, queued: asyncio.Queue[Iterable[Any]]) -> None:
    # What goes wrong is told to who reads.
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        while True:
            for request in await queued.get():
                await call.write(request)
