"""Epochs from a server, batch by batch."""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import weakref
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

from negserve._calls.epochs import EpochCursor, EpochReader, Item, num_batches
from negserve._protocol.epoch_progress import EpochProgress
from negserve._sync.interrupts import ending, held, put_off, run_sync
from negserve._sync.transport import SyncTransport
from negserve._transport.transport import ServerCall
from negserve.types.epoch import EpochBatch

#: Readers of this process whose threads may run.
_readers: weakref.WeakSet[_Reader] = weakref.WeakSet()


@atexit.register
def _close_readers() -> None:
    """End the threads while they can end: see :func:`negserve._sync.transport._end_calls`."""
    for reader in list(_readers):
        reader.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_readers.clear)


class _Reader(EpochReader):
    """A thread that reads ahead, into a queue.

    Parameters as of :class:`EpochReader`.

    :param owner: without which nobody reads on; the thread ends when it is garbage
    """

    def __init__(
        self, transport: SyncTransport, progress: EpochProgress, prefetch: int, owner: object
    ) -> None:
        super().__init__(transport, progress, prefetch)
        self._sync_transport = transport
        self._batches: queue.Queue[Item | BaseException] = queue.Queue()
        #: Numbers of batches that were taken. The thread that waits for one has no timeout: 256
        #: threads that look around every 50 ms would keep a processor busy.
        self._taken: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._num_ahead = 0  # those that were not, as far as the thread knows
        # The callback of a weak reference has to be C: no signal handler runs in there.
        self._owner = weakref.ref(owner, self._taken.put)
        self._lock = threading.Lock()
        self._call: ServerCall | None = None
        self._start()

    def _start(self) -> None:
        #: Held until the thread has read. A reference to the thread itself would let it die in the
        #: trainer's thread, in a callback of threading's own, in which Python drops a Ctrl-C.
        self._is_reading = threading.Lock()
        self._is_reading.acquire()
        _readers.add(self)
        # With the caller's context: traces find the span in it.
        threading.Thread(
            target=copy_context().run, args=(self._run,), name="negserve-epoch", daemon=True
        ).start()

    def close(self) -> None:
        """Stop reading, and end the call."""
        if sys.is_finalizing():
            return  # its thread stands still for ever, perhaps with a lock; the process ends both
        with self._lock:
            self._is_wanted = False
            if self._call is not None:
                self._call.close()
        self._taken.put(0)
        self._sync_transport.wake()
        with self._is_reading:
            pass

    def _run(self) -> None:
        outcome: BaseException | None = None
        try:
            run_sync(
                self._sync_transport.retry,
                self._attempt,
                self._pause,
                dataset=self._progress.dataset,
            )
        except BaseException as error:
            outcome = error
        self._batches.put(outcome)
        self._is_reading.release()

    async def _pause(self, seconds: float) -> None:
        await self._sync_transport.pause(seconds, lambda: self._is_wanted)

    async def _wait_for_room(self) -> None:
        while self._num_ahead >= self._prefetch and self._is_wanted:
            taken = self._taken.get()
            if self._owner() is None:
                self._is_wanted = False
            else:
                self._num_ahead -= taken

    def _put(self, item: Item) -> None:
        self._num_ahead += num_batches(item)
        self._batches.put(item)

    async def _get(self) -> Item | BaseException:
        with ending(self._wake_taker):
            item = self._batches.get()
        self._taken.put(num_batches(item))
        return item

    def _wake_taker(self) -> None:
        self._batches.put(([], True))

    def _hold(self, call: ServerCall) -> None:
        with self._lock:
            self._call = call


class EpochStream(EpochCursor[SyncTransport, _Reader]):
    """The training triples of a dataset with their negatives, epoch after epoch.

    Iterating gives the batches of what is left of the current epoch, then moves on to the next
    one, which is read ahead meanwhile. A stream that breaks or stalls, a server that is killed,
    drained or restarted, costs a delay, not a batch: reading goes on where it was, on the next
    replica if there are several, as long as the client's patience lasts without progress.

    The state is two integers, the epoch and the position within it at which to go on; keep it
    with the model's checkpoint. Any batch size and world size go on from it, without loss or
    repetition. Not thread-safe; pickled as its configuration and state.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param sampler: which negatives
    :param config: which positives; None for the defaults
    :param prefetch: batches read ahead, at least 1; those of a message are read together
    :param digest: whether to keep a running SHA-256 of all batches, see :attr:`digest`
    :ivar reads_on: whether the next epoch is read ahead, too; True at first
    """

    def __iter__(self) -> Iterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises UnavailableError: if no replica answered for as long as the client is patient
        :raises StalledError: if the last of them did not answer in time
        :raises OverloadedError: if the last of them had no place for another stream
        :raises NegserveError: as the server's status says
        """
        reader: _Reader | None = None
        epoch = self._place.epoch
        try:
            with held():
                reader, other = self._take_kept()
                if other is not None:
                    other.close()
                if reader is None:
                    reader = _Reader(self._transport, self._progress(), self.prefetch, self._kept)
            while not reader.is_over:
                # A signal handler can raise before the place is set, or after the yield: nothing
                # is called in between.
                for batch, place in run_sync(self._next, reader):
                    self._place = place
                    yield batch
        finally:
            with put_off():  # Python ignores exceptions here, if the iterator is garbage
                if reader is not None and not self._keep(reader, epoch):
                    reader.close()
