"""A sampler that a server computes, over one stream."""

from __future__ import annotations

import asyncio

from numpy.typing import ArrayLike

from negserve.aio.call import Call
from negserve.aio.connection import Connection
from negserve.budget import Budget
from negserve.config import SamplerConfig
from negserve.corrupted_batch import CorruptedBatch
from negserve.dataset import Dataset
from negserve.sample_exchange import SampleExchange, configuration


class RemoteSampler:
    """Draws negatives on a server, as :class:`negserve.RemoteSampler`.

    Made by :meth:`RemoteTriplesFactory.open_sampler`. Tasks of one event loop may share it: it
    answers one after the other.

    :param connection: to the dataset's server
    :param dataset: the dataset
    :param config: what to draw
    """

    def __init__(self, connection: Connection, dataset: Dataset, config: SamplerConfig) -> None:
        self._connection = connection
        self._dataset = dataset
        self.config = config
        self._lock = asyncio.Lock()
        self._call: Call | None = None

    async def open(self) -> None:
        """Open the stream, so that the configuration is checked.

        :raises NegserveError: typed by what the server said of the configuration
        """
        async with self._lock:
            await self._connection.persist(self._opened)

    async def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n: a large batch travels in several
            messages
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises NegserveError: typed by what the server said
        """
        exchange = SampleExchange(self._dataset, self.config, positives, position)

        async def draw(budget: Budget) -> None:
            call = await self._opened(budget)
            try:
                await call.exchange(exchange, budget)
            except BaseException:
                self._drop()  # also after a cancellation: an answer may be under way
                raise

        async with self._lock:
            await self._connection.persist(draw)
        return exchange.result()

    async def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        async with self._lock:
            self._drop()

    async def _opened(self, budget: Budget) -> Call:
        if self._call is None:
            first = configuration(self._dataset, self.config)
            call = self._connection.open("Sample")
            try:
                call.send(first)
                await call.answer(budget)
            except BaseException:
                call.close()
                raise
            self._call = call
        return self._call

    def _drop(self) -> None:
        if self._call is not None:
            self._call.close()
            self._call = None
