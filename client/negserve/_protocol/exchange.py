"""Requests and their answers, in order, over as many streams as it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from google.protobuf.message import Message

from negserve.types.dataset import Limits

#: Requests sent ahead of their answers: enough to hide a round trip.
_AHEAD = 4

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")


class Exchange(ABC, Generic[Request, Response]):
    """What was asked, and what is still to be answered. Does no I/O.

    Whoever has a stream sends :meth:`due`, gives each answer to :meth:`take`, and does so until
    :attr:`is_done`. On another stream, after :meth:`restart`, what was not answered is due again.

    :param requests: each with one answer
    :param limits: how many may be unanswered
    """

    def __init__(self, requests: Iterable[Request], limits: Limits) -> None:
        self._coming = iter(requests)
        self._next = next(self._coming, None)
        self._unanswered: deque[Request] = deque()
        self._most_messages = min(_AHEAD, limits.max_unanswered_messages)
        self._most_bytes = limits.max_unanswered_bytes
        self._num_bytes = 0
        self._num_sent = 0
        self._fill()

    def _fill(self) -> None:
        while (request := self._next) is not None:
            num_bytes = self._num_bytes + request.ByteSize()
            if self._unanswered and (
                len(self._unanswered) >= self._most_messages or num_bytes > self._most_bytes
            ):
                return
            self._unanswered.append(request)
            self._num_bytes = num_bytes
            self._next = next(self._coming, None)

    @property
    def is_done(self) -> bool:
        """Whether all requests are answered."""
        return not self._unanswered

    def restart(self) -> None:
        """Forget what was sent: there is another stream."""
        self._num_sent = 0

    def due(self) -> Iterator[Request]:
        """Iterate over the requests that are to be sent now."""
        while self._num_sent < len(self._unanswered):
            self._num_sent += 1
            yield self._unanswered[self._num_sent - 1]

    def take(self, response: Response) -> None:
        """Take the answer of the first unanswered request.

        :raises InvalidAnswerError: if it is none to that
        """
        self._keep(self._unanswered[0], response)
        self._num_bytes -= self._unanswered.popleft().ByteSize()
        self._num_sent -= 1
        self._fill()

    @abstractmethod
    def _keep(self, request: Request, response: Response) -> None: ...
