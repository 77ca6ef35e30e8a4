"""A connection to a server: one channel per event loop, deadlines, typed errors."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from negserve._transport import credentials
from negserve._transport.budget import Budget
from negserve._transport.parsing import open_stub, parsed
from negserve._transport.replicas import CHANNEL_OPTIONS
from negserve._transport.transport import Transport
from negserve.aio.call import Call, in_time
from negserve.aio.closed_loops import hear_out


@dataclass
class _Line:
    """An event loop's way to the replica in use."""

    target: str
    num_lost: int
    channel: grpc.aio.Channel
    closed: asyncio.Event
    calls: weakref.WeakSet[Call]  # also on the channels of replicas that were lost

    async def close(self) -> None:
        self.closed.set()
        for call in list(self.calls):
            call.close()
        await self.channel.close()


class Connection(Transport):
    """Opened on first use in each event loop; pickled as its configuration.

    Parameters as of :class:`negserve._transport.replicas.Replicas`.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()  # loops may run in several threads
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}

    def _line(self) -> _Line:
        """Give the way of the running loop.

        :raises ClosedError: after :meth:`close`
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.is_closed:
                raise self.closed()
            line = self._lines.get(loop)
            if line is None or line.num_lost != self.num_lost:
                for other in [other for other in self._lines if other.is_closed()]:
                    del self._lines[other]
                if line is None:
                    hear_out(loop)
                channel = credentials.open_channel(grpc.aio, self.target, CHANNEL_OPTIONS)
                line = self._lines[loop] = _Line(
                    self.target,
                    self.num_lost,
                    channel,
                    asyncio.Event() if line is None else line.closed,
                    weakref.WeakSet() if line is None else line.calls,
                )
            return line

    async def _ask(self, method: str, request: object, budget: Budget) -> tuple[str, Any]:
        line = self._line()
        call = getattr(open_stub(line.channel), method)(request)
        answer = await in_time(call, budget.limit(), self, line.target)
        return line.target, parsed(answer, line.target, method)

    def open(self, method: str, request: object = None) -> Call:
        """Open a stream on the replica in use.

        :param method: its name
        :param request: the only request; None for a method that takes a stream of them
        :raises ClosedError: after :meth:`close`
        """
        line = self._line()
        stub = open_stub(line.channel)
        call = Call(self, line.target, line.channel, getattr(stub, method), method, request)
        line.calls.add(call)
        return call

    def _leave(self, target: str) -> None:
        with self._lock:
            self.lose(target)

    async def pause(self, seconds: float) -> None:
        """Wait; less if the client is closed meanwhile.

        :raises ClosedError: after :meth:`close`
        """
        closed = self._line().closed
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await closed.wait()

    async def close(self) -> None:
        """Close the channels; calls under way end with an error."""
        with self._lock:
            self.is_closed = True
            lines, self._lines = self._lines, {}
        for loop, line in lines.items():
            if loop is asyncio.get_running_loop():
                await line.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(line.close(), loop)
