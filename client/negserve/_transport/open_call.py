"""One open call, and what is said over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Self

from negserve._protocol.answers import said_by
from negserve._protocol.exchange import Exchange
from negserve._transport.budget import Budget
from negserve._transport.replicas import Replicas


class OpenCall(ABC):
    """A stream of a server's messages, and of requests if the method takes some.

    Whatever waits here is a coroutine. How it waits, and who else goes on meanwhile, is its
    subclasses' matter. As a context manager it ends with the block.

    :param replicas: whose errors it has
    :ivar target: the replica that answers
    :ivar method: the name of what is called
    """

    def __init__(self, replicas: Replicas, target: str, method: str) -> None:
        self.target = target
        self.method = method
        self._replicas = replicas

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether the call has not ended."""

    @abstractmethod
    def send_all(self, requests: Iterable[Any]) -> None:
        """Send requests, without waiting; each is made when it is its turn."""

    @abstractmethod
    async def next(self, seconds: float) -> Any:
        """Wait for the next message; None after the last.

        :raises StalledError: if it does not come in time
        :raises InvalidAnswerError: if its bytes are no message of the method's
        :raises NegserveError: typed by what the server said
        """

    @abstractmethod
    def close(self) -> None:
        """End the call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, request: Any) -> None:
        """Send a request, without waiting."""
        self.send_all([request])

    def saying(self) -> AbstractContextManager[None]:
        """Name the replica and the method in what the block raises of an answer."""
        return said_by(self.target, self.method)

    async def answer(self, budget: Budget) -> Any:
        """Wait for a message that has to come.

        :raises NegserveError: as :meth:`next`
        """
        message = await self.next(budget.limit())
        if message is None:
            raise self._replicas.ended(self.target, "before its answer")
        return message

    async def exchange(self, exchange: Exchange[Any, Any], budget: Budget) -> None:
        """Send what is due and take the answers, until the exchange is done.

        :raises NegserveError: as :meth:`next`
        """
        exchange.restart()
        while not exchange.is_done:
            for request in exchange.due():
                self.send(request)
            answer = await self.answer(budget)
            with self.saying():
                exchange.take(answer)
            budget.note_progress()
