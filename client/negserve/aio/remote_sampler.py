"""A sampler that a server computes, over one stream."""

from __future__ import annotations

import asyncio

from numpy.typing import ArrayLike

from negserve._calls.sample_stream import SampleStream
from negserve._protocol.sample_exchange import SampleExchange
from negserve._protocol.sampler_echo import SamplerEcho
from negserve.aio.connection import Connection
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset


class RemoteSampler:
    """Draws negatives on a server, as :class:`negserve.RemoteSampler`.

    Made by :meth:`RemoteTriplesFactory.open_sampler`. Tasks of one event loop may share it: it
    answers one after the other.

    :param connection: to the dataset's server
    :param dataset: the dataset
    :param config: what to draw
    """

    def __init__(self, connection: Connection, dataset: Dataset, config: SamplerConfig) -> None:
        self._dataset = dataset
        self.config = config
        self._lock = asyncio.Lock()
        self._stream = SampleStream(connection, dataset, config, SamplerEcho(dataset, config))

    async def open(self) -> None:
        """Open the stream, so that the configuration is checked.

        :raises NegserveError: typed by what the server said of the configuration
        """
        async with self._lock:
            await self._stream.open()

    async def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        Parameters, result and errors as of :meth:`negserve.RemoteSampler.sample`.
        """
        exchange = SampleExchange(self._dataset, self.config, positives, position)
        async with self._lock:
            await self._stream.converse(exchange)
        return exchange.result()

    async def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        async with self._lock:
            self._stream.close()
