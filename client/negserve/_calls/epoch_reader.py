"""Reads an epoch ahead of who takes its batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

from negserve._protocol.epoch_progress import EpochProgress
from negserve._transport.budget import Budget
from negserve._transport.open_call import OpenCall
from negserve._transport.transport import Transport
from negserve.types.epoch import EpochBatch

#: A batch, or None if the epoch had none left, and whether it is the epoch's last.
Item: TypeAlias = tuple[EpochBatch | None, bool]


class EpochReader(ABC):
    """Reads what is left of one epoch into a bounded place, from which batches are taken.

    What reads beside the taker, a thread or a task, and the place are its subclasses' matter.

    :param transport: to the dataset's server
    :param progress: of the epoch
    :ivar is_over: whether the epoch's last batch was taken
    """

    def __init__(self, transport: Transport, progress: EpochProgress) -> None:
        self._transport = transport
        self._progress = progress
        self._is_wanted = True
        self.is_over = False

    @abstractmethod
    async def _put(self, item: Item | BaseException) -> None:
        """Add to the place, once there is room."""

    @abstractmethod
    async def _get(self) -> Item | BaseException:
        """Take from the place, once something is there."""

    @abstractmethod
    def _hold(self, call: OpenCall) -> None:
        """Take note of the call from which is read now."""

    async def next(self) -> Item:
        """Wait for the next batch, None if there is none; with it, whether it is the last.

        :raises NegserveError: what ended the stream
        """
        item = await self._get()
        if isinstance(item, BaseException):
            raise item
        _, self.is_over = item
        return item

    async def _read(self, budget: Budget) -> None:
        """Read to the end, over one stream after another as long as each gives something."""
        while self._is_wanted and not self._progress.is_done:
            with self._transport.open("SampleEpoch", self._progress.request()) as call:
                self._hold(call)
                if not self._is_wanted:
                    return
                while (message := await call.next(budget.limit())) is not None:
                    with call.saying():
                        for item in self._progress.take(message):
                            await self._put(item)
                            budget.note_progress()
                    if self._progress.is_done:
                        return  # whatever becomes of the call now
            if self._is_wanted and not self._progress.has_begun:
                raise self._transport.ended(call.target, "without a batch")
