"""Answers of one or of several messages, on as many replicas as it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from negserve._protocol.answer_readers import AnswerReader
from negserve._transport.transport import RetryBudget, Transport
from negserve.types.dataset import Dataset

_T = TypeVar("_T")


async def ask(
    transport: Transport, method: str, request: object, decode: Callable[[Any], _T]
) -> _T:
    """Call a unary method.

    :param method: its name
    :param decode: checks and decodes the answer
    :raises NegserveError: as the server's status says
    """

    async def attempt(budget: RetryBudget) -> _T:
        return await transport.ask(method, request, budget.limit(), decode)

    return await transport.retry(attempt)


async def read(
    transport: Transport, method: str, reader: AnswerReader[_T], dataset: Dataset | None = None
) -> _T:
    """Read an answer of several messages, over as many streams as it takes.

    :param method: its name
    :param dataset: the dataset of the request, to be restored where it is lost
    :raises NegserveError: as the server's status says
    """

    async def attempt(budget: RetryBudget) -> None:
        reader.restart()
        with await transport.open(method, reader.request) as call:
            while (message := await call.next(budget.limit())) is not None:
                with call.answering():
                    is_further = reader.take(message)
                if is_further:
                    budget.note_progress()
            with call.answering():
                reader.end()

    await transport.retry(attempt, dataset=dataset)
    return reader.result()
