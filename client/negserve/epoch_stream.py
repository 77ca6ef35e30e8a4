"""Epochs from a server, batch by batch, through lost servers, restarts and failovers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from negserve.budget import Budget
from negserve.call import Call
from negserve.config import SamplerConfig
from negserve.connection import Connection
from negserve.dataset import Dataset
from negserve.epoch import EpochBatch, EpochConfig
from negserve.epoch_cursor import EpochCursor
from negserve.epoch_progress import EpochProgress

#: How often a reader that waits for room looks whether it is still wanted.
_LOOK_SECONDS = 0.05

_Item = tuple[EpochBatch | None, bool]


class _Reader:
    """A thread that reads ahead: what is left of one epoch, into a bounded queue."""

    def __init__(self, connection: Connection, progress: EpochProgress, prefetch: int) -> None:
        self._connection = connection
        self._progress = progress
        self._batches: queue.Queue[_Item | BaseException] = queue.Queue(prefetch)
        self._lock = threading.Lock()
        self._is_wanted = True
        self._call: Call | None = None
        self._thread = threading.Thread(target=self._run, name="negserve-epoch", daemon=True)
        self._thread.start()

    def next(self) -> _Item:
        """Wait for the next batch, None if there is none; with it, whether it is the last.

        :raises NegserveError: what ended the stream
        """
        item = self._batches.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop reading and give everything back."""
        with self._lock:
            self._is_wanted = False
            if self._call is not None:
                self._call.close()
        self._connection.wake()
        self._thread.join()

    def _put(self, item: _Item | BaseException) -> None:
        while self._is_wanted:
            try:
                self._batches.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            self._connection.persist(self._read, lambda: self._is_wanted)
        except BaseException as error:
            self._put(error)

    def _read(self, budget: Budget) -> None:
        """Read to the end, over one stream after another as long as each gives something."""
        while self._is_wanted and not self._progress.is_done:
            call = self._connection.open("SampleEpoch", self._progress.request())
            with self._lock:
                self._call = call
                if not self._is_wanted:
                    call.close()
                    return
            for message in call.messages(budget):
                for item in self._progress.take(message):
                    self._put(item)
                    budget.note_progress()
                if self._progress.is_done:
                    return  # whatever becomes of the call now
            if self._is_wanted and not self._progress.has_begun:
                raise self._connection.ended(call.target, "without a batch")


class EpochStream(EpochCursor):
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

    def __iter__(self) -> Iterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises UnavailableError: if no replica answered for as long as the client is patient
        :raises StalledError: if the last of them did not answer in time
        :raises OverloadedError: if the last of them had no place for another stream
        :raises NegserveError: typed by what the server said
        """
        reader = _Reader(self._connection, self._progress(), self.prefetch)
        try:
            is_last = False
            while not is_last:
                batch, is_last = reader.next()
                # Before the batch is given: who keeps the state has seen the batch.
                self._advance(batch, is_last)
                if batch is not None:
                    yield batch
        finally:
            reader.close()
