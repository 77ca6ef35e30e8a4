"""Epochs from a server, batch by batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from negserve._calls.epochs import EpochCursor, EpochReader, Item
from negserve._protocol.epoch_progress import EpochProgress
from negserve._sync.interrupts import ending, held, put_off, run_sync
from negserve._sync.transport import SyncTransport
from negserve._transport.transport import RetryBudget, ServerCall
from negserve.errors import ServiceError
from negserve.types.epoch import EpochBatch

#: Interval in which a reader that waits for room checks whether it is still wanted.
_LOOK_SECONDS = 0.05


class _Reader(EpochReader):
    """A thread that reads ahead, into a queue."""

    def __init__(self, transport: SyncTransport, progress: EpochProgress, prefetch: int) -> None:
        super().__init__(transport, progress)
        self._sync_transport = transport
        self._batches: queue.Queue[Item | BaseException] = queue.Queue(prefetch)
        self._lock = threading.Lock()
        self._call: ServerCall | None = None
        self._thread = threading.Thread(target=self._run, name="negserve-epoch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading, and end the call."""
        with self._lock:
            self._is_wanted = False
            if self._call is not None:
                self._call.close()
        self._sync_transport.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            run_sync(
                self._sync_transport.retry,
                self._attempt,
                self._pause,
                dataset=self._progress.dataset,
            )
        except BaseException as error:
            run_sync(self._put, error)

    async def _attempt(self, budget: RetryBudget) -> None:
        try:
            await self._read(budget)
        except ServiceError:
            if self._is_wanted:
                raise  # else close() ended the call, not the replica

    async def _pause(self, seconds: float) -> None:
        await self._sync_transport.pause(seconds, lambda: self._is_wanted)

    async def _put(self, item: Item | BaseException) -> None:
        while self._is_wanted:
            try:
                self._batches.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return

    async def _get(self) -> Item | BaseException:
        with ending(self._wake_taker):
            return self._batches.get()

    def _wake_taker(self) -> None:
        with suppress(queue.Full):  # then it is not waiting
            self._batches.put_nowait((None, True))

    def _hold(self, call: ServerCall) -> None:
        with self._lock:
            self._call = call


class EpochStream(EpochCursor[SyncTransport]):
    """The training triples of a dataset with their negatives, epoch after epoch.

    Iterating gives the batches of what is left of the current epoch, then moves on to the next
    one. A stream that breaks or stalls, a server that is killed, drained or restarted, costs a
    delay, not a batch: reading goes on where it was, on the next replica if there are several, as
    long as the client's patience lasts without progress.

    The state is two integers, the epoch and the position within it at which to go on; keep it
    with the model's checkpoint. Any batch size and world size go on from it, without loss or
    repetition. Not thread-safe; pickled as its configuration and state.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param sampler: which negatives
    :param config: which positives; None for the defaults
    :param prefetch: batches read ahead, at least 1
    :param digest: whether to keep a running SHA-256 of all batches, see :attr:`digest`
    """

    def __iter__(self) -> Iterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises UnavailableError: if no replica answered for as long as the client is patient
        :raises StalledError: if the last of them did not answer in time
        :raises OverloadedError: if the last of them had no place for another stream
        :raises NegserveError: as the server's status says
        """
        reader: _Reader | None = None
        try:
            with held():
                reader = _Reader(self._transport, self._progress(), self.prefetch)
            while not reader.is_over:
                # No signal handler can raise between the end of run_sync and the yield.
                batch, self._place = run_sync(self._next, reader)
                if batch is not None:
                    yield batch
        finally:
            with put_off():  # Python ignores exceptions here, if the iterator is garbage
                if reader is not None:
                    reader.close()
