"""Where in its epochs a stream is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from negserve._calls.epoch_reader import EpochReader
from negserve._protocol.epoch_progress import EpochProgress
from negserve._protocol.sampler_echo import SamplerEcho
from negserve._transport.transport import Transport
from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.epoch import EpochBatch, EpochConfig

_Connection = TypeVar("_Connection", bound=Transport)


class Place(NamedTuple):
    """Where a stream is: behind a batch, and so before the next.

    :ivar epoch: of the next batch
    :ivar start: the position within it at which the next batch begins
    :ivar digest: see :attr:`EpochCursor.digest`
    """

    epoch: int
    start: int
    digest: str | None


class EpochCursor(Generic[_Connection]):
    """What a stream of epochs is about, and how far it is.

    Parameters as of :class:`negserve.EpochStream`.

    :ivar sampler: which negatives
    :ivar config: which positives
    :ivar prefetch: batches read ahead, at least 1
    """

    def __init__(
        self,
        connection: _Connection,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        if prefetch < 1:
            raise InvalidRequestError(f"prefetch={prefetch}; give at least 1 batch")
        self._connection = connection
        self._dataset = dataset
        self.sampler = sampler
        self.config = config or EpochConfig()
        self.prefetch = prefetch
        self._echo = SamplerEcho(dataset, sampler)
        # One object: who is interrupted is behind a batch in all respects, or in none.
        self._place = Place(0, 0, "" if digest else None)

    def _progress(self) -> EpochProgress:
        epoch, start, _ = self._place
        return EpochProgress(self._dataset, self.sampler, self.config, epoch, start, self._echo)

    async def _next(self, reader: EpochReader) -> tuple[EpochBatch | None, Place]:
        """Take a batch, None if the epoch has none left, and give the place behind it.

        Who gives the batch on goes there right before: who keeps the state has seen the batch.
        """
        batch, is_last = await reader.next()
        epoch, _, digest = self._place
        start = 0 if batch is None or is_last else batch.next_start
        if digest is not None and batch is not None:
            digest = chained_digest(digest, batch)
        return batch, Place(epoch + is_last, start, digest)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return self._place.epoch

    @property
    def digest(self) -> str | None:
        """SHA-256 over all batches so far, each hashed with the digest before it.

        64 hexadecimal digits, empty before the first batch; None if it is not kept. Equal for two
        runs with equal batches, also if one of them was interrupted.
        """
        return self._place.digest

    def state_dict(self) -> dict[str, Any]:
        """Give the state after the last batch that was taken: ``epoch`` and ``start``."""
        epoch, start, digest = self._place
        state: dict[str, Any] = {"epoch": epoch, "start": start}
        if digest is not None:
            state["digest"] = digest
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`; an iteration under way is not changed.

        :raises InvalidRequestError: if the state is none
        """
        digest = None if self._place.digest is None else str(state.get("digest", ""))
        self._place = Place(*epoch_and_start(state), digest)


def epoch_and_start(state: Mapping[str, Any]) -> tuple[int, int]:
    """Read the two integers of a state.

    :raises InvalidRequestError: if the state is none
    """
    try:
        epoch, start = int(state["epoch"]), int(state["start"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{state!r} is no state of a stream; give a mapping with epoch and start"
        ) from error
    if epoch < 0 or start < 0:
        raise InvalidRequestError(f"epoch={epoch}, start={start}; neither may be negative")
    return epoch, start


def chained_digest(before: str, batch: EpochBatch) -> str:
    """Hash a batch together with the digest of what came before it.

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
