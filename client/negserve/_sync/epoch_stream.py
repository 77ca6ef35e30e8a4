"""Epochs from a server, batch by batch, through lost servers, restarts and failovers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from negserve._calls.epoch_cursor import EpochCursor
from negserve._calls.epoch_reader import EpochReader, Item
from negserve._protocol.epoch_progress import EpochProgress
from negserve._sync.blocking import run
from negserve._sync.connection import Connection
from negserve._sync.interrupts import ending, held, put_off
from negserve._transport.budget import Budget
from negserve._transport.open_call import OpenCall
from negserve.errors import ServiceError
from negserve.types.epoch import EpochBatch

#: How often a reader that waits for room looks whether it is still wanted.
_LOOK_SECONDS = 0.05


class _Reader(EpochReader):
    """A thread that reads ahead, into a queue."""

    def __init__(self, connection: Connection, progress: EpochProgress, prefetch: int) -> None:
        super().__init__(connection, progress)
        self._connection = connection
        self._batches: queue.Queue[Item | BaseException] = queue.Queue(prefetch)
        self._lock = threading.Lock()
        self._call: OpenCall | None = None
        self._thread = threading.Thread(target=self._run, name="negserve-epoch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading and give everything back."""
        with self._lock:
            self._is_wanted = False
            if self._call is not None:
                self._call.close()
        self._connection.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            run(
                self._connection.persist,
                self._attempt,
                self._pause,
                dataset=self._progress.dataset,
            )
        except BaseException as error:
            run(self._put, error)

    async def _attempt(self, budget: Budget) -> None:
        try:
            await self._read(budget)
        except ServiceError:
            if self._is_wanted:
                raise  # else close() ended the call: the replica is not to blame

    async def _pause(self, seconds: float) -> None:
        await self._connection.pause(seconds, lambda: self._is_wanted)

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

    def _hold(self, call: OpenCall) -> None:
        with self._lock:
            self._call = call


class EpochStream(EpochCursor[Connection]):
    """The training triples of a dataset with their negatives, epoch after epoch.

    Iterating gives the batches of what is left of the current epoch, then moves on to the next
    one. A stream that breaks or stalls, a server that is killed, drained or restarted, costs a
    delay, not a batch: reading goes on where it was, on the next replica if there are several, as
    long as the client's patience lasts without progress.

    The state is two integers, the epoch and the position within it at which to go on; keep it
    with the model's checkpoint. Any batch size and world size go on from it, without loss or
    repetition. Not thread-safe; pickled as its configuration and state.

    :param connection: to the dataset's server
    :param dataset: the dataset
    :param sampler: which negatives
    :param config: which positives; None for the defaults
    :param prefetch: batches read ahead, at least 1
    :param digest: whether a running SHA-256 of all batches is kept, see :attr:`digest`
    """

    def __iter__(self) -> Iterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises UnavailableError: if no replica answered for as long as the client is patient
        :raises StalledError: if the last of them did not answer in time
        :raises OverloadedError: if the last of them had no place for another stream
        :raises NegserveError: typed by what the server said
        """
        reader: _Reader | None = None
        try:
            with held():
                reader = _Reader(self._connection, self._progress(), self.prefetch)
            while not reader.is_over:
                # Nothing can be raised between an interrupt's last chance in here and the yield.
                batch, self._place = run(self._next, reader)
                if batch is not None:
                    yield batch
        finally:
            with put_off():  # here Python forgets what is raised, if nobody holds the iterator
                if reader is not None:
                    reader.close()
