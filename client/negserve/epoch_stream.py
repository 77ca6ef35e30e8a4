"""Epochs from a server, batch by batch, through lost servers, restarts and failovers."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from negserve import wire
from negserve.backoff import tries
from negserve.config import SamplerConfig
from negserve.dataset import Dataset
from negserve.epoch import EpochBatch, EpochConfig
from negserve.errors import InvalidRequestError, ServiceError, StalledError, UnavailableError

#: How often a reader that waits for room looks whether it is still wanted.
_LOOK_SECONDS = 0.05


class _Reader:
    """A thread that reads ahead: what is left of one epoch, into a bounded queue."""

    def __init__(
        self,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig,
        epoch: int,
        start: int,
        prefetch: int,
    ) -> None:
        self._dataset = dataset
        self._sampler = sampler
        self._config = config
        self._epoch = epoch
        self._start = start
        self._batches: queue.Queue[tuple[EpochBatch, bool] | BaseException | None] = queue.Queue(
            prefetch
        )
        self._lock = threading.Lock()
        self._is_wanted = True
        self._call: Any = None
        self._thread = threading.Thread(target=self._run, name="negserve-epoch", daemon=True)
        self._thread.start()

    def next(self) -> tuple[EpochBatch, bool] | None:
        """Wait for the next batch; with it, whether it is the last. None if there is none.

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
                self._call.cancel()
        self._thread.join()

    def _put(self, item: tuple[EpochBatch, bool] | BaseException | None) -> None:
        while self._is_wanted:
            try:
                self._batches.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:
            self._put(error)

    def _read_all(self) -> None:
        connection = self._dataset.connection
        while self._is_wanted:
            last_error: ServiceError | None = None
            start = self._start
            for _ in tries(connection.patience):
                target = connection.target
                try:
                    if self._read_stream():
                        return
                    if self._start == start and self._is_wanted:
                        raise UnavailableError(f"{target}: the stream was ended without a batch")
                    # Ended in order, after some batches: at once again.
                except (UnavailableError, StalledError) as error:
                    last_error = error
                    connection.fail_over(target)
                if self._start != start or not self._is_wanted:
                    break  # there was progress: patience begins anew
            else:
                assert last_error is not None
                raise last_error

    def _read_stream(self) -> bool:
        """Read over one call; tell whether the epoch is at its end."""
        connection = self._dataset.connection
        call = connection.stub().SampleEpoch(
            wire.encode_epoch_request(
                self._dataset.name,
                self._dataset.fingerprint,
                self._sampler,
                self._config,
                self._epoch,
                self._start,
            )
        )
        with self._lock:
            if not self._is_wanted:
                call.cancel()
                return True
            self._call = call
        num_left: int | None = None
        for message in connection.messages(call):
            if num_left is None:
                num_left = message.configured.num_batches
                if num_left == 0:
                    self._put(None)
                    return True
                continue
            for encoded in message.batches.batches:
                batch = wire.decode_epoch_batch(encoded, self._sampler, self._config, self._epoch)
                num_left -= 1
                self._put((batch, num_left == 0))
                self._start = batch.next_start
                # From here on, the first batch is another worker's, and the last one this one's.
                self._config = replace(self._config, worker=self._config.num_workers - 1)
            if num_left == 0:
                return True  # whatever becomes of the call now
        return not self._is_wanted


class EpochStream:
    """The training triples of a dataset with their negatives, epoch after epoch.

    Iterating gives the batches of what is left of the current epoch, then moves on to the next
    one. A stream that breaks or stalls, a server that is killed, drained or restarted, costs a
    delay, not a batch: reading goes on where it was, on the next replica if there are several, as
    long as the client's patience lasts without progress.

    The state is two integers, the epoch and the position within it at which to go on; keep it
    with the model's checkpoint. Any batch size and world size go on from it, without loss or
    repetition. Not thread-safe; pickled as its configuration and state.

    :param dataset: the dataset
    :param sampler: which negatives
    :param config: which positives
    :param prefetch: batches read ahead, at least 1
    :param digest: whether a running SHA-256 of all batches is kept, see :attr:`digest`
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        if prefetch < 1:
            raise InvalidRequestError(f"prefetch={prefetch}; give at least 1 batch")
        self._dataset = dataset
        self.sampler = sampler
        self.config = config
        self.prefetch = prefetch
        self._epoch = 0
        self._start = 0
        self._digest: str | None = "" if digest else None

    def __iter__(self) -> Iterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises UnavailableError: if no replica answered for as long as the client is patient
        :raises StalledError: if the last of them did not answer in time
        :raises NegserveError: typed by what the server said
        """
        reader = _Reader(
            self._dataset, self.sampler, self.config, self._epoch, self._start, self.prefetch
        )
        try:
            is_last = False
            while not is_last:
                item = reader.next()
                if item is None:
                    self._epoch, self._start = self._epoch + 1, 0
                    return
                batch, is_last = item
                # Before the batch is given: who keeps the state has seen the batch.
                self._epoch += is_last
                self._start = 0 if is_last else batch.next_start
                if self._digest is not None:
                    self._digest = chained_digest(self._digest, batch)
                yield batch
        finally:
            reader.close()

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return self._epoch

    @property
    def digest(self) -> str | None:
        """SHA-256 over all batches so far, each hashed with the digest before it.

        64 hexadecimal digits, empty before the first batch; None if it is not kept. Equal for two
        runs with equal batches, also if one of them was interrupted.
        """
        return self._digest

    def state_dict(self) -> dict[str, Any]:
        """Give the state after the last batch that was taken: ``epoch`` and ``start``."""
        state: dict[str, Any] = {"epoch": self._epoch, "start": self._start}
        if self._digest is not None:
            state["digest"] = self._digest
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`; an iteration under way is not changed.

        :raises InvalidRequestError: if the state is none
        """
        try:
            epoch, start = int(state["epoch"]), int(state["start"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError(
                f"{state!r} is no state of a stream; give a mapping with epoch and start"
            ) from error
        if epoch < 0 or start < 0:
            raise InvalidRequestError(f"epoch={epoch}, start={start}; neither may be negative")
        self._epoch, self._start = epoch, start
        if self._digest is not None:
            self._digest = str(state.get("digest", ""))


def chained_digest(before: str, batch: EpochBatch) -> str:
    """Hash a batch together with the digest of what came before it.

    :param before: 64 hexadecimal digits, or an empty string
    """
    negatives = batch.negatives
    sha = hashlib.sha256(before.encode("ascii"))
    sha.update(batch.positives.astype("<i8").tobytes())
    for array in (negatives.rows(), negatives.head_counts, negatives.relation_counts):
        sha.update(array.astype("<u4").tobytes())
    if negatives.mask is not None:
        sha.update(np.packbits(negatives.mask, bitorder="little").tobytes())
    for floats in (negatives.log_q, batch.weights):
        if floats is not None:
            sha.update(floats.astype("<f4").tobytes())
    return sha.hexdigest()
