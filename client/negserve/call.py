"""One open call, whose messages come in time or not at all."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from negserve.budget import Budget
from negserve.exchange import Exchange
from negserve.replicas import Replicas
from negserve.stall_timer import StallTimer
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub


class Call:
    """A stream of a server's messages, and of requests if the method takes some.

    :param replicas: whose errors it has
    :param target: the replica that answers
    :param channel: to it
    :param method: name of the method
    :param request: the only request; None for a method that takes a stream of them
    """

    def __init__(
        self,
        replicas: Replicas,
        stall_timer: StallTimer,
        target: str,
        channel: grpc.Channel,
        method: str,
        request: Any = None,
    ) -> None:
        self.target = target
        self._channel = channel  # which lives as long, so that a fork closes it
        self._replicas = replicas
        self._stall_timer = stall_timer
        self._requests: queue.SimpleQueue[Iterable[Any] | None] = queue.SimpleQueue()
        start = getattr(SamplerServiceStub(channel), method)
        self._call = start(_flattened(self._requests) if request is None else request)
        # Whatever ends the call, a fork for one, ends the thread of grpc that waits for requests.
        # Not through self: grpc would hold it, and a call that nobody holds would stay open.
        requests = self._requests
        if not self._call.add_callback(lambda: requests.put(None)):
            self._end_requests()

    @property
    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return bool(self._call.is_active())

    def send(self, request: Any) -> None:
        """Send a request, without waiting."""
        self._requests.put([request])

    def send_all(self, requests: Iterable[Any]) -> None:
        """Send requests, without waiting; each is made when it is its turn."""
        self._requests.put(requests)

    def next(self, seconds: float) -> Any:
        """Wait for the next message; None after the last.

        :raises StalledError: if it does not come in time
        :raises NegserveError: typed by what the server said
        """
        try:
            with self._stall_timer.limit(self._call, seconds):
                return next(self._call, None)
        except TimeoutError as error:
            raise self._replicas.stalled(self.target, seconds) from error
        except grpc.RpcError as error:
            raise self._replicas.translate(error, self.target) from error

    def messages(self, budget: Budget) -> Iterator[Any]:
        """Iterate over the messages, each of which may take what the budget allows, then end.

        :raises NegserveError: as :meth:`next`
        """
        try:
            while (message := self.next(budget.limit())) is not None:
                yield message
        finally:
            self.close()

    def exchange(self, exchange: Exchange[Any, Any], budget: Budget) -> None:
        """Send what is due and take the answers, until the exchange is done.

        :raises NegserveError: as :meth:`next`
        """
        exchange.restart()
        while not exchange.is_done:
            for request in exchange.due():
                self.send(request)
            exchange.take(self.answer(budget))
            budget.note_progress()

    def answer(self, budget: Budget) -> Any:
        """Wait for a message that has to come.

        :raises NegserveError: as :meth:`next`
        """
        message = self.next(budget.limit())
        if message is None:
            raise self._replicas.ended(self.target, "before its answer")
        return message

    def close(self) -> None:
        """End the call."""
        self._end_requests()
        self._call.cancel()

    def _end_requests(self) -> None:
        self._requests.put(None)


def _flattened(queued: queue.SimpleQueue[Iterable[Any] | None]) -> Iterator[Any]:
    for requests in iter(queued.get, None):
        yield from requests
