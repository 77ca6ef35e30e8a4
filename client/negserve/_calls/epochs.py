"""Streams of epochs: reading ahead, and the place within the epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeAlias, TypeVar

from negserve._protocol.epoch_progress import EpochProgress, EpochState, Place
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._transport.statuses import ended
from negserve._transport.transport import RetryBudget, ServerCall, Transport
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.epoch import EpochBatch, EpochConfig

#: A batch, or None if the epoch has none left, and whether it is the epoch's last.
Item: TypeAlias = tuple[EpochBatch | None, bool]

_Transport = TypeVar("_Transport", bound=Transport)


class EpochReader(ABC):
    """Reads the rest of one epoch into a bounded queue, ahead of the consumer.

    Subclasses have the queue, and the thread or task that reads.

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
        """Add to the queue, once there is room."""

    @abstractmethod
    async def _get(self) -> Item | BaseException:
        """Take from the queue, once it is not empty."""

    @abstractmethod
    def _hold(self, call: ServerCall) -> None:
        """Note the call that is read from now."""

    async def next(self) -> Item:
        """Wait for the next batch, None if there is none, and whether it is the last.

        :raises NegserveError: the error that ended the stream
        """
        item = await self._get()
        if isinstance(item, BaseException):
            raise item
        _, self.is_over = item
        return item

    async def _read(self, budget: RetryBudget) -> None:
        """Read to the end, over one stream after the other as long as each has a batch."""
        while self._is_wanted and not self._progress.is_done:
            request = self._progress.request()
            with await self._transport.open_busy("SampleEpoch", budget, request) as call:
                self._hold(call)
                if not self._is_wanted:
                    return
                while (message := await call.next(budget.limit())) is not None:
                    with call.answering():
                        for item in self._progress.take(message):
                            await self._put(item)
                            budget.note_progress()
                    if self._progress.is_done:
                        return  # the status of the call does not matter any more
            if self._is_wanted and not self._progress.has_begun:
                raise ended(call.target, "without a batch")


class EpochCursor(EpochState, Generic[_Transport]):
    """The state of a stream of epochs from a server.

    Parameters as of :class:`negserve.EpochStream`.
    """

    def __init__(
        self,
        transport: _Transport,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        super().__init__(sampler, config, prefetch=prefetch, digest=digest)
        self._transport = transport
        self._dataset = dataset
        self._echo = SamplerEcho(dataset, sampler)

    def _progress(self) -> EpochProgress:
        epoch, start, _ = self._place
        return EpochProgress(self._dataset, self.sampler, self.config, epoch, start, self._echo)

    async def _next(self, reader: EpochReader) -> tuple[EpochBatch | None, Place]:
        """Take a batch, None if the epoch has none left, and return the place after it."""
        batch, is_last = await reader.next()
        return batch, self._after(batch, is_last=is_last)
