"""A connection to a server: one channel per process, deadlines, typed errors."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc

from negserve import forks
from negserve.budget import Budget
from negserve.call import Call
from negserve.errors import NegserveError, ServiceError
from negserve.replicas import CHANNEL_OPTIONS, Replicas
from negserve.stall_timer import StallTimer
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub

_T = TypeVar("_T")


class Connection(Replicas):
    """Thread-safe; opened on first use in each process; pickled as its configuration.

    Parameters as of :class:`negserve.replicas.Replicas`.
    """

    def __init__(
        self, target: str | Sequence[str], timeout: float, patience: float | None = None
    ) -> None:
        super().__init__(target, timeout, patience)
        self._set_up()

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

    def call(self, method: str, request: object) -> Any:
        """Call a unary method, on as many replicas as it takes.

        :param method: its name
        :raises NegserveError: typed by what the server said
        """

        def ask(budget: Budget) -> Any:
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

        return self.persist(ask)

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

    def persist(
        self, attempt: Callable[[Budget], _T], is_wanted: Callable[[], bool] = lambda: True
    ) -> _T:
        """Try until it succeeds, after a failure on the next replica, as the budget allows.

        A replica that failed is left for a connection of its own also if it is the only one; calls
        that are under way on the one before go on.

        :param attempt: what to do, within a budget that it tells of its progress
        :param is_wanted: if it says no, after :meth:`wake`, a pause between two tries is cut short
        :raises ServiceError: the last one, when the budget is spent
        """
        budget = self.budget()
        while True:
            try:
                return attempt(budget)
            except ServiceError as error:
                seconds = budget.pause_after(error)
                with self._lock:
                    if self.lose(error.target):
                        self._channel = None
            with self._pauses:
                self._pauses.wait_for(lambda: self.is_closed or not is_wanted(), seconds)

    def wake(self) -> None:
        """Let all that pause look whether they are still wanted."""
        with self._pauses:
            self._pauses.notify_all()

    def close(self) -> None:
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
