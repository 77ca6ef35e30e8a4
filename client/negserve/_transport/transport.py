"""How a server is asked, whoever waits for the answers."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

from negserve._protocol.answers import said_by
from negserve._transport.budget import Budget
from negserve._transport.open_call import OpenCall
from negserve._transport.pieces import Pieces
from negserve._transport.replicas import Replicas
from negserve.errors import LimitExceededError, ServiceError, UnknownDatasetError
from negserve.types.dataset import Dataset

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class Transport(Replicas, ABC):
    """Calls on the replica in use, and on the next one when it fails.

    Whatever waits here is a coroutine, as in :class:`negserve._transport.open_call.OpenCall`.

    Parameters as of :class:`negserve._transport.replicas.Replicas`.
    """

    def __init__(
        self, target: str | Sequence[str], timeout: float, patience: float | None = None
    ) -> None:
        super().__init__(target, timeout, patience)
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Begin without a channel."""

    @abstractmethod
    def open(self, method: str, request: object = None) -> OpenCall:
        """Open a stream on the replica in use.

        :param method: its name
        :param request: the only request; None for a method that takes a stream of them
        :raises ClosedError: after :meth:`close`
        """

    @abstractmethod
    async def _ask(self, method: str, request: object, budget: Budget) -> tuple[str, Any]:
        """Call a unary method on the replica in use; give that and its answer."""

    @abstractmethod
    def _leave(self, target: str) -> None:
        """Go on to the next replica, if this one is still in use, over another channel."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait; less if the client is closed meanwhile."""

    @abstractmethod
    async def close(self) -> None:
        """Close what is open; calls under way, and all later ones, end with an error."""

    def only(self, target: str) -> Self:
        """Give another connection, to one of the replicas."""
        return type(self)(**{**self.__getstate__(), "target": target})

    async def call(
        self,
        method: str,
        request: object,
        take: Callable[[Any], _T],
        dataset: Dataset | None = None,
    ) -> _T:
        """Call a unary method, on as many replicas as it takes.

        :param method: its name
        :param take: decodes the answer, or refuses it with :class:`negserve.InvalidAnswerError`
        :param dataset: what it is about
        :raises NegserveError: typed by what the server said
        """

        async def ask(budget: Budget) -> _T:
            target, answer = await self._ask(method, request, budget)
            with said_by(target, method):
                return take(answer)

        return await self.persist(ask, dataset=dataset)

    async def read(self, method: str, reader: Pieces[_T], dataset: Dataset | None = None) -> _T:
        """Read an answer that comes in pieces, over as many streams as it takes.

        :param method: its name
        :param reader: takes the pieces
        :param dataset: what it is about
        :raises NegserveError: typed by what the server said
        """

        async def attempt(budget: Budget) -> None:
            reader.restart()
            with self.open(method, reader.request) as call:
                while (message := await call.next(budget.limit())) is not None:
                    with call.saying():
                        is_further = reader.take(message)
                    if is_further:
                        budget.note_progress()
                with call.saying():
                    reader.end()

        await self.persist(attempt, dataset=dataset)
        return reader.result()

    async def persist(
        self,
        attempt: Callable[[Budget], Awaitable[_T]],
        pause: Callable[[float], Awaitable[None]] | None = None,
        *,
        dataset: Dataset | None = None,
    ) -> _T:
        """Try until it succeeds, after a failure on the next replica, as the budget allows.

        A replica that failed is left for a connection of its own also if it is the only one; calls
        that are under way on the one before go on.

        :param attempt: what to do, within a budget that it tells of its progress
        :param pause: how to wait between two tries; None for :meth:`pause`
        :param dataset: what it is about. A replica that has lost it gets it again, if the graph is
            at hand
        :raises ServiceError: the last one, when the budget is spent
        :raises UnknownDatasetError: if no replica has the dataset, or takes it
        """
        budget = self.budget()
        while True:
            try:
                return await attempt(budget)
            except UnknownDatasetError as error:
                if await self._restore(dataset, error.target):
                    # It has it now. Should it lose it again and again, patience ends.
                    seconds = budget.pause_after(self.ended(error.target, f"as {error}"))
                else:
                    budget.without_dataset.add(error.target)
                    if budget.without_dataset >= set(self.targets):
                        raise
                    self._leave(error.target)
                    continue
            except ServiceError as error:
                seconds = budget.pause_after(error)
                self._leave(error.target)
            await (pause or self.pause)(seconds)

    async def _restore(self, dataset: Dataset | None, target: str) -> bool:
        """Publish a dataset again on a replica that has lost it, and tell whether it has it now.

        :raises FingerprintMismatchError: if the graph at hand has changed, or its name is taken
        """
        if dataset is None or dataset.restore is None:
            return False
        replica = self.only(target)
        try:
            await dataset.restore(replica)
        except (ServiceError, LimitExceededError) as error:
            logger.warning("%s has lost the dataset %s: %s", target, dataset.name, error)
            return False
        finally:
            await replica.close()
        logger.warning("%s had lost the dataset %s; it was published again", target, dataset.name)
        return True
