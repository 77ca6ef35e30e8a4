"""Epochs from a server, batch by batch, through lost servers, restarts and failovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from negserve.aio.connection import Connection
from negserve.budget import Budget
from negserve.config import SamplerConfig
from negserve.dataset import Dataset
from negserve.epoch import EpochBatch, EpochConfig
from negserve.epoch_cursor import EpochCursor
from negserve.epoch_progress import EpochProgress

_Item = tuple[EpochBatch | None, bool]


class EpochStream(EpochCursor):
    """The training triples of a dataset with their negatives, as :class:`negserve.EpochStream`.

    Made by :meth:`RemoteTriplesFactory.epochs`. ``async for batch in stream`` gives what is left of
    the current epoch; a task that is cancelled, or a loop that is left, ends the server's stream.

    :param connection: to the dataset's server
    :param dataset: the dataset
    :param sampler: which negatives
    :param config: which positives; None for the defaults
    :param prefetch: batches read ahead, at least 1
    :param digest: whether a running SHA-256 of all batches is kept, see :attr:`digest`
    """

    def __init__(
        self,
        connection: Connection,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        super().__init__(dataset, sampler, config, prefetch, digest)
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        batches: asyncio.Queue[_Item | Exception] = asyncio.Queue(self.prefetch)
        reader = asyncio.create_task(_read(self._connection, self._progress(), batches))
        try:
            is_last = False
            while not is_last:
                item = await batches.get()
                if isinstance(item, Exception):
                    raise item
                batch, is_last = item
                # Before the batch is given: who keeps the state has seen the batch.
                self._advance(batch, is_last)
                if batch is not None:
                    yield batch
        finally:
            reader.cancel()
            await asyncio.wait([reader])


async def _read(
    connection: Connection, progress: EpochProgress, batches: asyncio.Queue[_Item | Exception]
) -> None:
    """Read ahead what is left of an epoch, into a bounded queue."""

    async def attempt(budget: Budget) -> None:
        # Over one stream after another, as long as each gives something.
        while not progress.is_done:
            call = connection.open("SampleEpoch", progress.request())
            async with aclosing(call.messages(budget)) as messages:
                async for message in messages:
                    for item in progress.take(message):
                        await batches.put(item)
                        budget.note_progress()
                    if progress.is_done:
                        return  # whatever becomes of the call now
            if not progress.has_begun:
                raise connection.ended(call.target, "without a batch")

    try:
        await connection.persist(attempt)
    except Exception as error:
        await batches.put(error)
