"""Where in its epochs a stream is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from negserve.config import SamplerConfig
from negserve.dataset import Dataset
from negserve.epoch import EpochBatch, EpochConfig
from negserve.epoch_progress import EpochProgress
from negserve.epoch_reader import EpochReader
from negserve.errors import InvalidRequestError
from negserve.sampler_echo import SamplerEcho
from negserve.transport import Transport

_Connection = TypeVar("_Connection", bound=Transport)


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
        self._epoch = 0
        self._start = 0
        self._digest: str | None = "" if digest else None

    def _progress(self) -> EpochProgress:
        return EpochProgress(
            self._dataset, self.sampler, self.config, self._epoch, self._start, self._echo
        )

    async def _next(self, reader: EpochReader) -> EpochBatch | None:
        """Take a batch and go behind it; None after the epoch's last."""
        if reader.is_over:
            return None
        batch, is_last = await reader.next()
        # Before the batch is given: who keeps the state has seen the batch.
        self._advance(batch, is_last)
        return batch

    def _advance(self, batch: EpochBatch | None, is_last: bool) -> None:
        """Go behind a batch; None if the epoch had none left."""
        self._epoch += is_last
        self._start = 0 if batch is None or is_last else batch.next_start
        if self._digest is not None and batch is not None:
            self._digest = chained_digest(self._digest, batch)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return self._epoch

    @property
    def digest(self) -> str | None:
        """SHA-256 over all batches so far, each hashed with the digest before it.

        64 hexadecimal digits, empty before the first batch; None if it is not kept. Equal for two
        runs with equal batches, also if one of them was interrupted.
        """
        return self._digest

    def state_dict(self) -> dict[str, Any]:
        """Give the state after the last batch that was taken: ``epoch`` and ``start``."""
        state: dict[str, Any] = {"epoch": self._epoch, "start": self._start}
        if self._digest is not None:
            state["digest"] = self._digest
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`; an iteration under way is not changed.

        :raises InvalidRequestError: if the state is none
        """
        self._epoch, self._start = epoch_and_start(state)
        if self._digest is not None:
            self._digest = str(state.get("digest", ""))


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
