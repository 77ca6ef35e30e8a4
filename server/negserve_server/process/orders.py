"""What all workers of a supervisor are told, and answer, before one of them gets its answer."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from negserve_server.process.control_line import ControlLine

logger = logging.getLogger(__name__)

#: How long a worker may take to do what all have to do.
MOST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """A message for all workers.

    :ivar message: what they are told
    :ivar conclude: called with their answers; gives the answer to the one who asked
    """

    message: Any
    conclude: Callable[[list[Any]], Any]


class Chief(Protocol):
    """Decides what workers do together. Never waits for them."""

    def handle(self, request: Any) -> Order:
        """Do what a worker asks for; say what all are told about it."""
        ...

    def reload(self) -> Order | None:
        """Do what SIGHUP asks for; say what all are told about it."""
        ...


@dataclass(frozen=True, slots=True)
class Follower:
    """A worker that follows orders.

    :ivar name: for the log
    :ivar pid: its process
    :ivar line: to it
    """

    name: str
    pid: int
    line: ControlLine


@dataclass(slots=True)
class _Request:
    """What is asked for, and by whom; nobody, with the number 0, for SIGHUP."""

    line: ControlLine | None
    number: int
    value: Any


@dataclass(slots=True)
class _Current:
    """The order that is being followed."""

    request: _Request
    order: Order
    number: int
    due: float
    missing: set[ControlLine]
    answers: list[Any] = field(default_factory=list)


class Orders:
    """Gives orders one after the other: the next one once all workers have followed the last one.

    A worker that can't follow, or takes too long, is killed: the one that takes its place begins
    with what its supervisor has. So all that run are of one state.

    :param chief: decides
    """

    def __init__(self, chief: Chief) -> None:
        self._chief = chief
        self._followers: dict[ControlLine, Follower] = {}
        self._waiting: deque[_Request] = deque()
        self._current: _Current | None = None
        self._num_given = 0

    @property
    def lines(self) -> list[ControlLine]:
        """To all workers."""
        return list(self._followers)

    def join(self, follower: Follower) -> None:
        """Take a worker that was forked just now, and so has the state of this process."""
        self._followers[follower.line] = follower

    def leave(self, line: ControlLine) -> None:
        """Forget a worker that has ended."""
        for message in line.receive():
            if "failure" not in message:
                self._take(line, message)
        del self._followers[line]
        line.close()
        if self._current is not None:
            self._current.missing.discard(line)
        self._go_on()

    def reload(self) -> None:
        """Do what SIGHUP asks for."""
        self._waiting.append(_Request(None, 0, None))
        self._go_on()

    def read(self, lines: Iterable[ControlLine]) -> None:
        """Take the messages of workers."""
        for line in lines:
            for message in line.receive():
                self._take(line, message)
        self._go_on()

    def seconds_left(self) -> float | None:
        """Give the seconds until :meth:`check` is due; None for any number."""
        return None if self._current is None else self._current.due - time.monotonic()

    def check(self) -> None:
        """Kill workers that take too long."""
        current = self._current
        if current is not None and current.missing and time.monotonic() >= current.due:
            for line in current.missing:
                self._kill(line, f"does not follow for {MOST_SECONDS:g} seconds")
            current.due += MOST_SECONDS

    def _take(self, line: ControlLine, message: Any) -> None:
        if "request" in message:
            self._waiting.append(_Request(line, message["request"], message["value"]))
            return
        if "failure" in message:
            self._kill(line, f"can't follow: {message['failure']}")
            return
        current = self._current
        if current is not None and message["answer"] == current.number and line in current.missing:
            current.missing.discard(line)
            current.answers.append(message["value"])

    def _go_on(self) -> None:
        while True:
            current = self._current
            if current is not None:
                if current.missing:
                    return
                self._current = None
                answer = current.order.conclude(current.answers)
                line = current.request.line
                if line in self._followers and line is not None:
                    line.send({"answer": current.request.number, "value": answer})
            if not self._waiting:
                return
            request = self._waiting.popleft()
            order = (
                self._chief.reload() if request.line is None else self._chief.handle(request.value)
            )
            if order is None:
                continue
            self._num_given += 1
            self._current = _Current(
                request,
                order,
                self._num_given,
                time.monotonic() + MOST_SECONDS,
                set(self._followers),
            )
            for line in self._followers:
                line.send({"order": self._num_given, "value": order.message})

    def _kill(self, line: ControlLine, why: str) -> None:
        follower = self._followers[line]
        logger.error("%s (process %d) %s; it is killed", follower.name, follower.pid, why)
        os.kill(follower.pid, signal.SIGKILL)  # not yet buried, so the number is its own
