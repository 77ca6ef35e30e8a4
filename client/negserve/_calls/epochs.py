"""Streams of epochs: reading ahead, and the place within the epochs."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from negserve._protocol.epoch_progress import EpochProgress
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._transport.statuses import ended
from negserve._transport.transport import RetryBudget, ServerCall, Transport
from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.epoch import EpochBatch, EpochConfig

#: A batch, or None if the epoch has none left, and whether it is the epoch's last.
Item: TypeAlias = tuple[EpochBatch | None, bool]

_Transport = TypeVar("_Transport", bound=Transport)


class Place(NamedTuple):
    """The place of a stream between two batches.

    :ivar epoch: of the next batch
    :ivar start: position within the epoch at which the next batch begins
    :ivar digest: see :attr:`EpochCursor.digest`
    """

    epoch: int
    start: int
    digest: str | None


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


class EpochState:
    """Configuration and place of a stream of epochs.

    Parameters as of :class:`negserve.EpochStream`.

    :ivar sampler: which negatives
    :ivar config: which positives
    :ivar prefetch: batches read ahead, at least 1
    """

    def __init__(
        self,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        if prefetch < 1:
            raise InvalidRequestError(f"prefetch={prefetch}; give at least 1 batch")
        self.sampler = sampler
        self.config = config or EpochConfig()
        self.prefetch = prefetch
        # One object, so that an interrupt leaves all of it before a batch, or all of it after.
        self._place = Place(0, 0, "" if digest else None)

    def _after(self, batch: EpochBatch | None, *, is_last: bool) -> Place:
        """Return the place after a batch; None for an epoch that has none left.

        The caller moves there right before it yields the batch, so that a state that is kept
        afterwards includes it.
        """
        epoch, _, digest = self._place
        start = 0 if batch is None or is_last else batch.next_start
        if digest is not None and batch is not None:
            digest = chained_digest(digest, batch)
        return Place(epoch + is_last, start, digest)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._place.epoch

    @property
    def digest(self) -> str | None:
        """SHA-256 of all batches so far, each hashed with the digest before it.

        64 hexadecimal digits, empty before the first batch; None if it is not kept. Equal for two
        runs with equal batches, also if one of them was interrupted.
        """
        return self._place.digest

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that was taken: ``epoch`` and ``start``."""
        epoch, start, digest = self._place
        state: dict[str, Any] = {"epoch": epoch, "start": start}
        if digest is not None:
            state["digest"] = digest
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of :meth:`state_dict`; an iteration under way does not change.

        :raises InvalidRequestError: if the state is malformed
        """
        digest = None if self._place.digest is None else str(state.get("digest", ""))
        self._place = Place(*epoch_and_start(state), digest)


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


def epoch_and_start(state: Mapping[str, Any]) -> tuple[int, int]:
    """Read the two integers of a state.

    :raises InvalidRequestError: if the state is malformed
    """
    try:
        epoch, start = int(state["epoch"]), int(state["start"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{state!r} is not the state of a stream; give a mapping with epoch and start"
        ) from error
    if epoch < 0 or start < 0:
        raise InvalidRequestError(f"epoch={epoch}, start={start}; neither may be negative")
    return epoch, start


def chained_digest(before: str, batch: EpochBatch) -> str:
    """Hash a batch together with the digest of the batches before it.

    :param before: 64 hexadecimal digits, or an empty string
    """
    negatives = batch.negatives
    sha = hashlib.sha256(before.encode("ascii"))
    sha.update(batch.positives.astype("<i8").tobytes())
    for array in (negatives.rows(), negatives.head_counts, negatives.relation_counts):
        sha.update(array.astype("<u4").tobytes())
    if negatives.mask is not None:
        sha.update(np.packbits(negatives.mask, bitorder="little").tobytes())
    for floats in (negatives.log_q, batch.weights):
        if floats is not None:
            sha.update(floats.astype("<f4").tobytes())
    return sha.hexdigest()
