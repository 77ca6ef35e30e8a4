"""Calls, and retries on other replicas, whether threads or tasks wait for them."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar

from google.protobuf.message import DecodeError

from negserve._protocol.messages import answer_error, answer_from, invalid
from negserve._protocol.pipelines import RequestPipeline
from negserve._transport.channels import PARSERS
from negserve._transport.connector import Connector
from negserve._transport.statuses import ended
from negserve._transport.worker_pool import WorkerPool
from negserve.errors import (
    InvalidAnswerError,
    InvalidRequestError,
    OverloadedError,
    ServiceError,
    StalledError,
    UnavailableError,
    UnknownDatasetError,
)
from negserve.types.dataset import Dataset

_T = TypeVar("_T")

#: Errors that may pass, or that another replica may not have.
TEMPORARY = (UnavailableError, StalledError, OverloadedError, InvalidAnswerError)
#: Invalid answers after which a replica is given up: RPCs are pure, so it would repeat them. More
#: than one, since several servers may share an address, and a proxy may have changed the bytes.
_MOST_INVALID_ANSWERS = 3
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
#: With less than that left, there is no further try.
_LEAST_SECONDS = 0.05


class RetryBudget:
    """Time that a call, or a stream between two messages, may spend on failing tries.

    Does no I/O and never waits: it computes time limits. Until the first failure a message may
    take ``timeout``. From then on until there is progress, patience runs, and a try may take its
    equal share of what is left, among the replicas that were not tried in this round: so one
    silent replica can't use up the time of the others.

    Once each replica has given several invalid answers, there is no further try.

    :ivar num_replicas: number of replicas that share the tries; it may change
    :ivar without_dataset: replicas without the dataset, since there was progress
    :param timeout: seconds that a message may take
    :param patience: seconds from the first failure without progress to the end of the last try
    :param num_replicas: number of replicas that share the tries
    """

    def __init__(self, timeout: float, patience: float, num_replicas: int) -> None:
        self._timeout = timeout
        self._patience = patience
        self.num_replicas = num_replicas
        self._is_short = False  # the limit of the last try, by what is left of patience
        self.note_progress()

    def note_progress(self) -> None:
        """Reset the budget: a message arrived."""
        self._first_failure: float | None = None
        self._num_failures = 0
        self._invalid_answers: dict[str, int] = {}
        self._last_errors: dict[str, ServiceError] = {}
        self._num_untried = self.num_replicas
        self.without_dataset: set[str] = set()
        self._longest_pause = _FIRST_PAUSE_SECONDS

    def limit(self) -> float:
        """Return how many seconds the next message may take."""
        share = self._timeout
        if self._first_failure is not None:
            share = max(self._left() / self._num_untried, _LEAST_SECONDS)
        self._is_short = share < self._timeout
        return min(self._timeout, share)

    def pause_after(self, error: ServiceError) -> float:
        """Return how many seconds to wait before the next try: with jitter, longer each round.

        :raises ServiceError: the error, if it is not temporary; or one that says how much was
            tried, if the budget is spent. If its try was cut short then, that is the one before it
            of the same replica, which says more
        """
        if not isinstance(error, TEMPORARY):
            raise error
        if self._first_failure is None:
            self._first_failure = time.monotonic()
        elif isinstance(error, StalledError) and self._is_short:
            error = self._last_errors.get(error.target, error)
        self._last_errors[error.target] = error
        self._num_failures += 1
        self._num_untried -= 1
        longest = self._longest_pause
        if self._num_untried == 0:
            self._num_untried = self.num_replicas
            self._longest_pause = min(2 * longest, _LONGEST_PAUSE_SECONDS)
        left = self._left()
        given_up = f"{self._patience:g} seconds of patience" if left <= _LEAST_SECONDS else ""
        if isinstance(error, InvalidAnswerError):
            number = self._invalid_answers.get(error.target, 0)
            self._invalid_answers[error.target] = number + 1
            if self._all_are_invalid():
                given_up = f"{_MOST_INVALID_ANSWERS} such answers of each replica"
        if given_up:
            raise type(error)(
                f"{error}; given up after {self._num_failures} tries and {given_up}",
                reason=error.reason,
                metadata=error.metadata,
                target=error.target,
            ) from error
        # Pauses never use up what is left: the last tries come closer and closer together.
        return min(random.uniform(0.5, 1.0) * longest, left / 2 / self._num_untried)

    def _all_are_invalid(self) -> bool:
        return self.num_replicas == sum(
            count >= _MOST_INVALID_ANSWERS for count in self._invalid_answers.values()
        )

    def _left(self) -> float:
        assert self._first_failure is not None
        return self._first_failure + self._patience - time.monotonic()


class ServerCall(ABC):
    """An open call: a stream of messages, and of requests if the method takes some.

    Whatever waits is a coroutine. As a context manager, the call ends with the block.

    :ivar channel: over which it goes
    :ivar target: the replica that answers
    :ivar method: name of the method
    """

    def __init__(self, channel: Any, target: str, method: str) -> None:
        self.channel = channel
        self.target = target
        self.method = method

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether the call has not ended."""

    @abstractmethod
    def send_all(self, requests: Iterable[Any]) -> None:
        """Queue requests, without waiting; an iterator advances as they are sent."""

    @abstractmethod
    async def _next(self, seconds: float) -> bytes | None:
        """Wait for the bytes of the next message; None after the last.

        :raises StalledError: if they do not arrive in time
        :raises NegserveError: as the server's status says
        """

    @abstractmethod
    def close(self) -> None:
        """End the call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answering(self) -> AbstractContextManager[None]:
        """Add the replica and the method to an :class:`InvalidAnswerError` of the block."""
        return answer_from(self.target, self.method)

    async def next(self, seconds: float) -> Any:
        """Wait for the next message; None after the last.

        :raises StalledError: if it does not arrive in time
        :raises InvalidAnswerError: if its bytes are not a message of the method
        :raises NegserveError: as the server's status says
        """
        data = await self._next(seconds)
        return None if data is None else _parsed(data, self.target, self.method)

    async def answer(self, budget: RetryBudget) -> Any:
        """Wait for a message, which the server must send before it ends the stream.

        :raises NegserveError: as :meth:`next`
        """
        message = await self.next(budget.limit())
        if message is None:
            raise ended(self.target, "before its answer")
        return message

    async def run(self, pipeline: RequestPipeline[Any, Any, Any], budget: RetryBudget) -> None:
        """Send the requests of a pipeline, and take answers until it is answered.

        :raises NegserveError: as :meth:`next`
        """
        requests = pipeline.resume(self)
        if requests:
            self.send_all(requests)
        while not pipeline.is_answered:
            try:
                answer = await self.answer(budget)
            except InvalidRequestError as error:
                raise pipeline.in_call(error) from error.__cause__
            try:
                requests = pipeline.take(answer)
            except InvalidAnswerError as error:
                raise answer_error(error, self.target, self.method) from None
            if requests:
                self.send_all(requests)
            if pipeline.has_advanced:
                budget.note_progress()


class Transport(Connector):
    """Calls on the replica in use, and on the next one when it fails.

    Whatever waits is a coroutine, as in :class:`ServerCall`. Pickled as its configuration.

    :param target: ``HOST:PORT`` or ``unix:PATH``; several, or a host name with several addresses,
        for replicas of the same data
    :param timeout: seconds that a call, or a stream's next message, may take
    :param patience: seconds that failures may last, see :class:`RetryBudget`; None for
        ``timeout`` times the number of replicas
    :param spread: see :class:`.Replicas`
    :raises InvalidRequestError: if there is no address, one is malformed, or a time is not positive
    """

    def __init__(
        self,
        target: str | Sequence[str],
        timeout: float,
        patience: float | None = None,
        *,
        spread: bool = True,
    ) -> None:
        for name, seconds in (("timeout", timeout), ("patience", patience)):
            if seconds is not None and seconds <= 0:
                raise InvalidRequestError(f"{name}={seconds}; give a positive number of seconds")
        super().__init__(target, spread=spread)
        self.timeout = timeout
        self._patience = patience
        self._spread = spread

    @property
    def patience(self) -> float:
        """Seconds that failures may last."""
        if self._patience is not None:
            return self._patience
        return self.timeout * max(len(self.replicas.targets), len(self.replicas.members))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "target": self.replicas.targets,
            "timeout": self.timeout,
            "patience": self._patience,
            "spread": self._spread,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @abstractmethod
    def _open_calls(self) -> list[ServerCall]:
        """Return the open calls of this process or event loop."""

    @abstractmethod
    def _start(self, channel: Any, method: str, request: object) -> ServerCall:
        """Open a stream over a connection."""

    @abstractmethod
    async def _ask(
        self, channel: Any, method: str, request: object, seconds: float
    ) -> tuple[str, bytes]:
        """Call a unary method; return the replica and the answer's bytes."""

    @property
    def is_spread(self) -> bool:
        """Whether streams of ranks begin at several replicas."""
        return self._spread and len(self.replicas.members) > 1

    async def look_up(self) -> None:
        """Look up names of replicas, unless they were a moment ago."""
        if self.replicas.next_look <= time.monotonic():
            await self._look_up()

    async def _reach(self, number: int | None = None) -> WorkerPool[Any]:
        """Return the connections to the replica of a stream, see :meth:`.Replicas.choose`."""
        await self.look_up()
        found = self.replicas
        return self._pool(found.choose(number) if len(found.members) > 1 else found.target)

    async def open(self, method: str, request: object = None) -> ServerCall:
        """Open a stream on the replica in use.

        :param method: its name
        :param request: the only request; None for a method that takes a stream of them
        :raises ClosedError: after :meth:`close`
        """
        return self._start((await self._reach()).first, method, request)

    async def open_busy(
        self, method: str, budget: RetryBudget, request: object = None, number: int | None = None
    ) -> ServerCall:
        """Open a stream that will be busy: on another process of the server than earlier ones.

        Parameters and errors as of :meth:`open`.

        :param number: which replica it begins at, counted round; None for the one in use
        """
        pool = await self._reach(number)
        if not (calls := self._open_calls()):
            return self._start(pool.first, method, request)
        while (channel := pool.choose(call.channel for call in calls)) is None:
            await self._reach_another(pool, budget.limit())
        return self._start(channel, method, request)

    async def ask(
        self,
        method: str,
        request: object,
        seconds: float,
        decode: Callable[[Any], _T],
        channel: Any = None,
    ) -> _T:
        """Call a unary method once."""
        if channel is None:
            channel = (await self._reach()).first
        target, data = await self._ask(channel, method, request, seconds)
        with answer_from(target, method):
            return decode(_parsed(data, target, method))

    def leave(self, target: str) -> None:
        """Open streams at other replicas for some time, and later ones over another connection."""
        self.replicas.leave(target)
        self._drop(target)

    def only(self, target: str) -> Self:
        """Make a transport to one of the replicas."""
        one = type(self)(target, self.timeout, self.patience)
        one.replicas = self.replicas.only(target)
        return one

    async def retry(
        self,
        attempt: Callable[[RetryBudget], Awaitable[_T]],
        pause: Callable[[float], Awaitable[None]] | None = None,
        *,
        dataset: Dataset | None = None,
    ) -> _T:
        """Try until it succeeds, after a failure on the next replica, as the budget allows.

        After a failure the channel is replaced even if there is only one replica; other calls that
        are under way on the old channel continue.

        :param attempt: the operation, which reports its progress to the budget
        :param pause: waits between two tries; None for :meth:`pause`
        :param dataset: the dataset that it needs. It is published again on a replica that has lost
            it, if this process has the graph
        :raises ServiceError: the last one, when the budget is spent
        :raises UnknownDatasetError: if no replica has the dataset, or takes it
        """
        budget = RetryBudget(self.timeout, self.patience, len(self.replicas.members))
        while True:
            try:
                return await attempt(budget)
            except UnknownDatasetError as error:
                if await self._restore(dataset, error.target):
                    # If the replica loses it again and again, patience ends.
                    seconds = budget.pause_after(ended(error.target, f"as {error}"))
                else:
                    budget.without_dataset.add(error.target)
                    if budget.without_dataset >= set(self.replicas.members):
                        raise
                    self.leave(error.target)
                    continue
            except ServiceError as error:
                budget.num_replicas = len(self.replicas.members)
                seconds = budget.pause_after(error)
                self.leave(error.target)
            await (pause or self.pause)(seconds)

    async def _restore(self, dataset: Dataset | None, target: str) -> bool:
        """Publish a dataset again on a replica that has lost it; tell whether it has it now.

        :raises FingerprintMismatchError: if the graph has changed here, or its name is taken
        """
        if dataset is None or dataset.restore is None:
            return False
        replica = self.only(target)
        try:
            return await dataset.restore(replica)
        finally:
            await replica.close()


def _parsed(data: bytes, target: str, method: str) -> Any:
    """Parse a message that a replica sent.

    :raises InvalidAnswerError: if the bytes are not a message of the method
    """
    try:
        return PARSERS[method](data)
    except DecodeError:
        error = invalid("message", f"{len(data)} bytes", "a message of that method")
    raise answer_error(error, target, method)
