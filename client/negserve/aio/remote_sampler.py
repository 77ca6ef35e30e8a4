"""A sampler on a server, over one stream."""

from __future__ import annotations

import asyncio

from numpy.typing import ArrayLike

from negserve._calls.sampler_stream import SamplerStream
from negserve._protocol.sampler_answers import SamplerEcho
from negserve.aio.transport import AsyncTransport
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset


class RemoteSampler:
    """Draws negatives on a server, as :class:`negserve.RemoteSampler`.

    Made by :meth:`RemoteTriplesFactory.open_sampler`. Tasks of one event loop may share it: it
    answers one after the other.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param config: which negatives to draw
    """

    def __init__(self, transport: AsyncTransport, dataset: Dataset, config: SamplerConfig) -> None:
        self.config = config
        self._lock = asyncio.Lock()
        self._stream = SamplerStream(transport, dataset, config, SamplerEcho(dataset, config))

    async def open(self) -> None:
        """Open the stream, so that the server checks the configuration.

        :raises NegserveError: as the server's status says
        """
        async with self._lock:
            await self._stream.open()

    async def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        Parameters, result and errors as of :meth:`negserve.RemoteSampler.sample`.
        """
        pipeline = self._stream.pipeline(positives, position)
        async with self._lock:
            return await self._stream.run(pipeline)

    async def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        async with self._lock:
            self._stream.close()
