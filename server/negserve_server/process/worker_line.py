"""A worker's end of the line of orders, in its event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from negserve_server.process.control_line import ControlLine


class Post(NamedTuple):
    """The place of a worker.

    :ivar number: from 1 on; worker 1 takes the graphs that clients publish
    :ivar num_workers: how many there are
    :ivar line: to the supervisor
    """

    number: int
    num_workers: int
    line: ControlLine


class WorkerLine:
    """Asks the supervisor, and follows its orders, one after the other.

    :param line: to the supervisor
    """

    def __init__(self, line: ControlLine) -> None:
        self._line = line
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._orders: asyncio.Queue[Any] = asyncio.Queue()
        self._following: asyncio.Task[None] | None = None

    async def start(self, follow: Callable[[Any], Awaitable[Any]]) -> None:
        """Follow orders from now on; return once those are followed that have come before.

        :param follow: does what an order says, and gives the answer; what it raises ends this
            process, in whose place another one begins with what the supervisor has
        """
        asyncio.get_running_loop().add_reader(self._line, self._read)
        self._following = asyncio.create_task(self._follow(follow))
        self._read()
        await self._orders.join()

    async def ask(self, value: Any) -> Any:
        """Ask the supervisor; its answer comes once all workers have followed."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"request": number, "value": value})
        try:
            return await answer
        finally:
            del self._asked[number]

    def _send(self, message: Any) -> None:
        self._line.send(message)
        if self._line.has_unsent:
            asyncio.get_running_loop().add_writer(self._line, self._flush)

    def _flush(self) -> None:
        self._line.flush()
        if not self._line.has_unsent:
            asyncio.get_running_loop().remove_writer(self._line)

    def _read(self) -> None:
        for message in self._line.receive():
            if "order" in message:
                self._orders.put_nowait(message)
            elif (answer := self._asked.get(message["answer"])) is not None and not answer.done():
                answer.set_result(message["value"])
        if self._line.is_over:  # the supervisor is gone, and so is this process in a moment
            asyncio.get_running_loop().remove_reader(self._line)

    async def _follow(self, follow: Callable[[Any], Awaitable[Any]]) -> None:
        while True:
            message = await self._orders.get()
            try:
                # An answer that can't be encoded fails, too: else its asker would wait for it.
                self._send({"answer": message["order"], "value": await follow(message["value"])})
            except Exception as error:
                self._send({"failure": str(error) or type(error).__name__})
            self._orders.task_done()
