"""A connection to a server: one channel per process, deadlines, typed errors."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import grpc

from negserve import forks
from negserve.budget import Budget
from negserve.call import Call
from negserve.errors import NegserveError
from negserve.replicas import CHANNEL_OPTIONS
from negserve.stall_timer import StallTimer
from negserve.transport import Transport
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub


class Connection(Transport):
    """Thread-safe; opened on first use in each process; pickled as its configuration.

    Its coroutines block the thread, and so never suspend: :func:`negserve.blocking.run` runs them.

    Parameters as of :class:`negserve.replicas.Replicas`.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._channel: grpc.Channel | None = None
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._pauses = threading.Condition()
        self._stall_timer = StallTimer()

    def _open_channel(self) -> tuple[str, grpc.Channel]:
        """Give the replica in use, and this process's channel to it.

        Whoever uses it holds it, also after it was lost: only so does the next fork close it.

        :raises ClosedError: after :meth:`close`
        """
        if self._process != os.getpid():
            # A forked child: the parent's locks and timer are not its own.
            self._set_up()
        with self._lock:
            if self.is_closed:
                raise self.closed()
            if self._channel is None or not forks.is_open(self._channel):
                self._channel = forks.open_channel(self.target, CHANNEL_OPTIONS)
            return self.target, self._channel

    async def _ask(self, method: str, request: object, budget: Budget) -> Any:
        target, channel = self._open_channel()
        limit = budget.limit()
        try:
            return getattr(SamplerServiceStub(channel), method)(request, timeout=limit)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self.stalled(target, limit) from error
            raise self.translate(error, target) from error
        except ValueError as error:
            raise self._cut_off(target) from error

    def open(self, method: str, request: object = None) -> Call:
        """Open a stream on the replica in use.

        :param method: its name
        :param request: the only request; None for a method that takes a stream of them
        :raises ClosedError: after :meth:`close`
        :raises UnavailableError: if a fork has closed the channel just now
        """
        target, channel = self._open_channel()
        try:
            call = Call(self, self._stall_timer, target, channel, method, request)
        except ValueError as error:
            raise self._cut_off(target) from error
        with self._lock:
            self._calls.add(call)
        return call

    def _cut_off(self, target: str) -> NegserveError:
        """Give what it means that grpc says the channel is closed: with a ValueError."""
        return self.closed() if self.is_closed else self.ended(target, "by a fork")

    def _leave(self, target: str) -> None:
        with self._lock:
            if self.lose(target):
                self._channel = None

    async def pause(self, seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Wait; less if the client is closed meanwhile.

        :param is_wanted: if it says no, after :meth:`wake`, the pause is cut short too
        """
        with self._pauses:
            self._pauses.wait_for(lambda: self.is_closed or not is_wanted(), seconds)

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
            channel, self._channel = self._channel, None
            calls = list(self._calls)  # also on the channels of replicas that were lost
        for call in calls:
            call.close()
        if channel is not None:
            channel.close()
        self.wake()
