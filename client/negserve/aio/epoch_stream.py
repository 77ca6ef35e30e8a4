"""Epochs from a server, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from negserve._calls.epochs import EpochCursor, EpochReader, Item
from negserve._protocol.epoch_progress import EpochProgress
from negserve._transport.transport import ServerCall
from negserve.aio.transport import AsyncTransport
from negserve.types.epoch import EpochBatch


class _Reader(EpochReader):
    """A task that reads ahead, into a queue."""

    def __init__(self, transport: AsyncTransport, progress: EpochProgress, prefetch: int) -> None:
        super().__init__(transport, progress)
        self._batches: asyncio.Queue[Item | BaseException] = asyncio.Queue(prefetch)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop reading, and end the call."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._transport.retry(self._read, dataset=self._progress.dataset)
        except Exception as error:
            await self._put(error)

    async def _put(self, item: Item | BaseException) -> None:
        await self._batches.put(item)

    async def _get(self) -> Item | BaseException:
        return await self._batches.get()

    def _hold(self, call: ServerCall) -> None:
        pass  # cancelled, the task ends the call itself


class EpochStream(EpochCursor[AsyncTransport]):
    """The training triples of a dataset with their negatives, as :class:`negserve.EpochStream`.

    Made by :meth:`RemoteTriplesFactory.epochs`. ``async for batch in stream`` gives what is left of
    the current epoch; a task that is cancelled, or a loop that is left, ends the server's stream.

    Parameters as of :class:`negserve.EpochStream`.
    """

    async def __aiter__(self) -> AsyncIterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        reader = _Reader(self._transport, self._progress(), self.prefetch)
        try:
            while not reader.is_over:
                batch, self._place = await self._next(reader)
                if batch is not None:
                    yield batch
        finally:
            await reader.close()
