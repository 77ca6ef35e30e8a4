"""One open call, whose messages come in time or not at all."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from negserve._sync import forks, interrupts
from negserve._sync.keeper import Kept
from negserve._sync.stall_timer import StallTimer
from negserve._transport.open_call import OpenCall
from negserve._transport.parsing import parsed
from negserve._transport.replicas import Replicas
from negserve.errors import NegserveError


class Call(OpenCall):
    """A call that blocks the thread while it waits.

    :param replicas: whose errors it has
    :param target: the replica that answers
    :param channel: to it
    :param start: starts a call of a method over it
    :param method: its name
    :param request: the only request; None for a method that takes a stream of them
    """

    def __init__(
        self,
        replicas: Replicas,
        stall_timer: StallTimer,
        target: str,
        channel: grpc.Channel,
        start: Callable[[Any], Any],
        method: str,
        request: Any = None,
    ) -> None:
        super().__init__(replicas, target, method)
        self._channel = channel  # which lives as long, so that a fork closes it
        self._stall_timer = stall_timer
        self._requests: queue.SimpleQueue[Iterable[Any] | None] = queue.SimpleQueue()
        # Whatever ends the call, a fork for one, ends the thread of grpc that waits for requests.
        # Not through self: grpc would hold it, and a call that nobody holds would stay open.
        requests = self._requests
        with forks.using():
            self._call = Kept(start(_flattened(requests) if request is None else request))
            if not self._call().add_callback(lambda: requests.put(None)):
                self._end_requests()

    @property
    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return bool(self._call().is_active())

    def send_all(self, requests: Iterable[Any]) -> None:
        """Send requests, without waiting; each is made when it is its turn."""
        self._requests.put(requests)

    async def next(self, seconds: float) -> Any:
        """Wait for the next message; None after the last.

        :raises NegserveError: as :meth:`negserve._transport.open_call.OpenCall.next`
        """
        call = self._call()
        try:
            with (
                interrupts.ending(call.cancel),
                forks.using(),
                self._stall_timer.limit(call, seconds),
            ):
                message = next(call, None)
        except TimeoutError:
            failure: NegserveError = self._replicas.stalled(self.target, seconds)
        except grpc.RpcError as error:
            failure = self._replicas.translate(error, self.target)
            failure.__cause__ = detached(error)
        else:
            return parsed(message, self.target, self.method)
        raise failure

    def close(self) -> None:
        """End the call."""
        self._end_requests()
        with forks.using():
            self._call().cancel()

    def _end_requests(self) -> None:
        self._requests.put(None)


def detached(error: grpc.RpcError) -> grpc.RpcError:
    """Give what an error says, without the call.

    The error of a call is the call itself. Who keeps one would let go of the call where signal
    handlers run, see :mod:`negserve._sync.keeper`.
    """
    error.__traceback__ = None  # whose frames hold the call
    return grpc.RpcError(str(error))


def _flattened(queued: queue.SimpleQueue[Iterable[Any] | None]) -> Iterator[Any]:
    for requests in iter(queued.get, None):
        yield from requests
