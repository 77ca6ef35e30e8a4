"""A connection to a server: one channel per process, deadlines, typed errors."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from negserve._sync import forks, interrupts
from negserve._sync.call import Call, detached
from negserve._sync.stall_timer import StallTimer
from negserve._transport.budget import Budget
from negserve._transport.parsing import open_stub, parsed
from negserve._transport.replicas import CHANNEL_OPTIONS
from negserve._transport.transport import Transport
from negserve.errors import NegserveError
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub


class _Line(NamedTuple):
    """The way to a replica."""

    target: str
    channel: grpc.Channel
    stub: SamplerServiceStub


class Connection(Transport):
    """Thread-safe; opened on first use in each process; pickled as its configuration.

    Its coroutines block the thread, and so never suspend:
    :func:`negserve._sync.blocking.run` runs them.

    Parameters as of :class:`negserve._transport.replicas.Replicas`.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._line: _Line | None = None
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._pauses = threading.Condition()
        self._stall_timer = StallTimer()

    def _open_line(self) -> _Line:
        """Give this process's way to the replica in use.

        Whoever uses its channel holds it, also after it was lost: only so does the next fork close
        it.

        :raises ClosedError: after :meth:`close`
        """
        if self._process != os.getpid():
            # A forked child: the parent's locks and timer are not its own.
            self._set_up()
        with self._lock:
            if self.is_closed:
                raise self.closed()
            if self._line is None or not forks.is_open(self._line.channel):
                opened = forks.open_channel(self.target, CHANNEL_OPTIONS, open_stub)
                self._line = _Line(self.target, *opened)
            return self._line

    async def _ask(self, method: str, request: object, budget: Budget) -> tuple[str, Any]:
        line = self._open_line()
        limit = budget.limit()
        try:
            with forks.using():
                # A future, which another thread can cancel.
                call = getattr(line.stub, method).future(request, timeout=limit)
                with interrupts.ending(call.cancel):
                    answer = call.result()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                failure: NegserveError = self.stalled(line.target, limit)
            else:
                failure = self.translate(error, line.target)
            failure.__cause__ = detached(error)
        except ValueError as error:
            raise self._cut_off(line.target) from error
        else:
            return line.target, parsed(answer, line.target, method)
        raise failure

    def open(self, method: str, request: object = None) -> Call:
        """Open a stream on the replica in use.

        :param method: its name
        :param request: the only request; None for a method that takes a stream of them
        :raises ClosedError: after :meth:`close`
        :raises UnavailableError: if a fork has closed the channel just now
        """
        line = self._open_line()
        start = getattr(line.stub, method)
        try:
            call = Call(self, self._stall_timer, line.target, line.channel, start, method, request)
        except ValueError as error:
            raise self._cut_off(line.target) from error
        with self._lock:
            self._calls.add(call)
        return call

    def _cut_off(self, target: str) -> NegserveError:
        """Give what it means that grpc says the channel is closed: with a ValueError."""
        return self.closed() if self.is_closed else self.ended(target, "by a fork")

    def _leave(self, target: str) -> None:
        with self._lock:
            line = self._line
            if self.lose(target):
                self._line = None
        with forks.using():
            del line  # maybe the last that holds the channel

    async def pause(self, seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Wait; less if the client is closed meanwhile.

        :param is_wanted: if it says no, after :meth:`wake`, the pause is cut short too
        """
        with interrupts.ending(self.wake), self._pauses:
            self._pauses.wait_for(
                lambda: self.is_closed or not is_wanted() or interrupts.is_raised(), seconds
            )

    def wake(self) -> None:
        """Let all that pause look whether they are still wanted."""
        with self._pauses:
            self._pauses.notify_all()

    async def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        if self._process != os.getpid():
            self._set_up()  # the parent's calls are not this process's to close
        with self._lock:
            self.is_closed = True
            line, self._line = self._line, None
            calls = list(self._calls)  # also on the channels of replicas that were lost
        for call in calls:
            call.close()
        if line is not None:
            with forks.using():
                line.channel.close()
        self.wake()
