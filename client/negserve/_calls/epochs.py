"""Streams of epochs: reading ahead, and the place within the epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeAlias, TypeVar

from negserve._calls.per_process import PerProcess
from negserve._protocol.epoch_progress import MOST_EPOCHS, EpochProgress, EpochState, Place
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._transport.statuses import ended
from negserve._transport.transport import TEMPORARY, RetryBudget, ServerCall, Transport
from negserve.errors import NegserveError
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.epoch import EpochBatch, EpochConfig

#: The batches of a message, none if the epoch has none left, and whether the last of them is the
#: epoch's last; or None where the reader has ended, and is to be started again if more is wanted.
Item: TypeAlias = tuple[list[EpochBatch], bool] | None

_Transport = TypeVar("_Transport", bound=Transport)
_Reader = TypeVar("_Reader", bound="EpochReader")


def num_batches(item: Item | BaseException) -> int:
    """Count the batches of an item."""
    return 0 if item is None or isinstance(item, BaseException) else len(item[0])


class EpochReader(ABC):
    """Reads epochs into a queue, ahead of the consumer, also past an epoch's end.

    A stream that fails or ends before the consumer has begun its epoch is not opened again then:
    the epoch may never be wanted. Subclasses have the queue, and the thread or task that reads.

    The streams of ranks and epochs begin at the replicas in turn, so that all of them have about
    equally much to do. Where there are several, a stream has one epoch, and the next one is read
    ahead on another.

    :param transport: to the dataset's server
    :param progress: of the epochs
    :param prefetch: batches read ahead: with fewer in the queue, the next message is read
    :ivar is_over: whether the last batch of the consumer's epoch was taken
    """

    def __init__(self, transport: Transport, progress: EpochProgress, prefetch: int) -> None:
        self._transport = transport
        self._progress = progress
        self._prefetch = prefetch
        self._is_wanted = True
        self._epoch = progress.epoch
        self.is_over = False

    @abstractmethod
    def _start(self) -> None:
        """Start to read from where the progress is."""

    @abstractmethod
    async def _wait_for_room(self) -> None:
        """Wait until fewer batches than ``prefetch`` are in the queue, or none are wanted."""

    @abstractmethod
    def _put(self, item: Item) -> None:
        """Add to the queue."""

    @abstractmethod
    async def _get(self) -> Item | BaseException:
        """Take from the queue, once it is not empty."""

    @abstractmethod
    def _hold(self, call: ServerCall) -> None:
        """Note the call that is read from now."""

    @property
    def _is_ahead(self) -> bool:
        """Whether it reads an epoch that the consumer has not begun."""
        return self._progress.epoch > self._epoch

    def begin_next(self) -> None:
        """Begin the next epoch, at the end of one."""
        self._epoch += 1
        self.is_over = False

    async def next(self) -> tuple[list[EpochBatch], bool]:
        """Wait for the next batches, and whether the last of them is the epoch's last.

        :raises NegserveError: the error that ended the stream
        """
        while (item := await self._get()) is None:
            self._start()
        if isinstance(item, BaseException):
            raise item
        _, self.is_over = item
        return item

    async def _attempt(self, budget: RetryBudget) -> None:
        try:
            await self._read(budget)
        except NegserveError as error:
            if not self._is_wanted:
                return  # the error of a call that close() ended, and not the replica
            if not self._is_ahead:
                raise
            if isinstance(error, TEMPORARY):
                self._transport.leave(error.target)

    async def _read(self, budget: RetryBudget) -> None:
        """Read epoch after epoch, over one stream after the other as long as each has a batch."""
        transport, progress = self._transport, self._progress
        while self._is_wanted:
            await transport.look_up()
            is_spread = transport.is_spread
            request = progress.request(1 if is_spread else MOST_EPOCHS)
            number = progress.number
            with await transport.open_busy("SampleEpoch", budget, request, number) as call:
                self._hold(call)
                if not self._is_wanted:
                    return
                while (message := await call.next(budget.limit())) is not None:
                    with call.answering():
                        item = progress.take(message)
                    if item is not None:
                        self._put(item)
                        await self._wait_for_room()
                        if not self._is_wanted:
                            return
                        budget.note_progress()
                    if progress.is_done:
                        break  # the status of the call does not matter any more
            if progress.is_done:
                if not (is_spread and progress.reads_on):
                    return
                continue
            if self._is_ahead:
                return
            if self._is_wanted and not progress.has_begun:
                raise ended(call.target, "without a batch")


class EpochCursor(EpochState, Generic[_Transport, _Reader]):
    """The state of a stream of epochs from a server.

    Parameters as of :class:`negserve.EpochStream`.

    :ivar reads_on: whether the next epoch is read ahead, too, when an epoch is read from its server
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
        self.reads_on = True
        self._transport = transport
        self._dataset = dataset
        self._echo = SamplerEcho(dataset, sampler)
        #: The reader between two epochs, and what it reads next.
        self._kept: PerProcess[list[tuple[_Reader, object]]] = PerProcess(list)
        _ = self._kept.value  # made here, and not by who waits for the first batch

    def _progress(self) -> EpochProgress:
        epoch, start, _ = self._place
        return EpochProgress(
            self._dataset, self.sampler, self.config, epoch, start, self._echo,
            reads_on=self.reads_on,
        )  # fmt: skip

    def _take_kept(self) -> tuple[_Reader | None, _Reader | None]:
        """Return the kept reader: first, if it reads what comes next, or else second, to close."""
        kept = self._kept.value
        if not kept:
            return None, None
        reader, following = kept.pop()
        if following != self._following:
            return None, reader
        reader.begin_next()
        return reader, None

    def _keep(self, reader: _Reader, epoch: int) -> bool:
        """Keep a reader for the next epoch, if its epoch is over; tell whether it is kept.

        An interrupt may come between the reader's last batch and the move of the place behind it.
        The reader has read past the place then.

        :param epoch: the one that it has read
        """
        kept = self._kept.value
        if kept or not reader.is_over or self._place[:2] != (epoch + 1, 0):
            return False
        kept.append((reader, self._following))
        return True

    @property
    def _following(self) -> object:
        return self._place[:2], self.config, self.prefetch, self.reads_on

    async def _next(self, reader: _Reader) -> list[tuple[EpochBatch, Place]]:
        """Wait for batches, and return each with the place after it."""
        batches, is_last = await reader.next()
        if not batches:
            self._end_empty()
        return list(zip(batches, self._after(batches, is_last=is_last), strict=True))
