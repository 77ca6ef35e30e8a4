"""A sampler on a server: one stream for calls, and one for each stream of batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from functools import partial

from numpy.typing import ArrayLike

from negserve._calls.sampler_stream import SamplerStream
from negserve._protocol.pipelines import SamplePipeline
from negserve._protocol.sampler_answers import SamplerEcho
from negserve.aio.transport import AsyncTransport
from negserve.types.checks.invalid import check_integer
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset
from negserve.types.triples_factory import MAX_AHEAD


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
        self._make = partial(
            SamplerStream, transport, dataset, config, SamplerEcho(dataset, config)
        )
        self._stream = self._make()

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
        async with self._lock:
            return await self._stream.sample(positives, position)

    def stream(
        self,
        batches: Iterable[tuple[ArrayLike, int]] | AsyncIterable[tuple[ArrayLike, int]],
        ahead: int = 4,
    ) -> AsyncGenerator[CorruptedBatch, None]:
        """Corrupt batch after batch: the server draws the next ones while one is used.

        Parameters, result and errors as of :meth:`negserve.RemoteSampler.stream`; ``batches`` may
        be asynchronous. To stop early, close the iterator (``contextlib.aclosing``).
        """
        check_integer("ahead", ahead, 1, MAX_AHEAD)
        stream = self._make()
        return self._answers(stream, stream.pipeline(ahead), _asynchronous(batches), ahead)

    def parts(self, positives: ArrayLike, position: int) -> AsyncGenerator[CorruptedBatch, None]:
        """Corrupt a batch, and give what arrived: consecutive parts, as the messages of the answer.

        Over a stream of its own, as :meth:`stream`. Parameters and errors as of :meth:`sample`.
        """
        stream = self._make()
        pipeline = stream.pipeline(1)
        pipeline.add_parts(positives, position)
        return self._answers(stream, pipeline, _asynchronous(()), 1)

    async def _answers(
        self,
        stream: SamplerStream,
        pipeline: SamplePipeline,
        batches: AsyncGenerator[tuple[ArrayLike, int], None],
        ahead: int,
    ) -> AsyncGenerator[CorruptedBatch, None]:
        """Give the answers to the calls of a pipeline, and to those of further batches."""
        has_more, failure = True, None
        try:
            while True:
                is_filling = pipeline.has_room
                while is_filling and has_more and pipeline.num_calls < ahead:
                    try:
                        pipeline.add(*await anext(batches))
                    except StopAsyncIteration:
                        has_more = False
                    except Exception as error:
                        has_more, failure = False, error
                if not pipeline.num_calls:
                    break
                yield await stream.run(pipeline)
            if failure is not None:
                raise failure
        finally:
            stream.close()
            await batches.aclose()

    async def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        async with self._lock:
            self._stream.close()


async def _asynchronous(
    batches: Iterable[tuple[ArrayLike, int]] | AsyncIterable[tuple[ArrayLike, int]],
) -> AsyncGenerator[tuple[ArrayLike, int], None]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch
