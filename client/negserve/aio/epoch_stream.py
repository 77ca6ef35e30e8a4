"""Epochs from a server, batch by batch."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator

from negserve._calls.epochs import EpochCursor, EpochReader, Item, num_batches
from negserve._protocol.epoch_progress import EpochProgress
from negserve._transport.transport import ServerCall
from negserve.aio.transport import AsyncTransport
from negserve.types.epoch import EpochBatch


class _Reader(EpochReader):
    """A task that reads ahead, into a queue.

    Parameters as of :class:`EpochReader`.

    :param owner: without which nobody reads on; the task ends when it is garbage
    """

    def __init__(
        self, transport: AsyncTransport, progress: EpochProgress, prefetch: int, owner: object
    ) -> None:
        super().__init__(transport, progress, prefetch)
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[Item | BaseException] = asyncio.Queue()
        self._num_ahead = 0
        self._has_room = asyncio.Event()
        self._start()
        # Until then the owner holds the task: its loop does not.
        self._owner = weakref.ref(owner, lambda _: self.drop())

    def _start(self) -> None:
        self._task = asyncio.create_task(self._run())

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the running loop."""
        return self._loop is asyncio.get_running_loop()

    async def close(self) -> None:
        """Stop reading, and end the call."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def drop(self) -> None:
        """Stop reading soon; in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        outcome: Exception | None = None
        try:
            await self._transport.retry(self._attempt, dataset=self._progress.dataset)
        except Exception as error:
            outcome = error
        finally:  # also if a task of the user's cancelled it
            self._batches.put_nowait(outcome)

    async def _wait_for_room(self) -> None:
        while self._num_ahead >= self._prefetch:
            self._has_room.clear()
            await self._has_room.wait()

    def _put(self, item: Item) -> None:
        self._num_ahead += num_batches(item)
        self._batches.put_nowait(item)

    async def _get(self) -> Item | BaseException:
        item = await self._batches.get()
        self._num_ahead -= num_batches(item)
        self._has_room.set()
        return item

    def _hold(self, call: ServerCall) -> None:
        pass  # cancelled, the task ends the call itself


class EpochStream(EpochCursor[AsyncTransport, _Reader]):
    """The training triples of a dataset with their negatives, as :class:`negserve.EpochStream`.

    Made by :meth:`RemoteTriplesFactory.epochs`. ``async for batch in stream`` gives what is left of
    the current epoch; a task that is cancelled, or a loop that is left, ends the server's stream.

    Parameters and attributes as of :class:`negserve.EpochStream`.
    """

    async def __aiter__(self) -> AsyncIterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        epoch = self._place.epoch
        reader, other = self._take_kept()
        if reader is not None and not reader.is_here:
            reader, other = None, reader
        if other is not None:
            other.drop()
        if reader is None:
            reader = _Reader(self._transport, self._progress(), self.prefetch, self._kept)
        try:
            while not reader.is_over:
                for batch, place in await self._next(reader):
                    self._place = place
                    yield batch
        finally:
            if not self._keep(reader, epoch):
                await reader.close()
