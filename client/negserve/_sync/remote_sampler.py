"""A sampler that a server computes, over one stream."""

from __future__ import annotations

import os
import threading
from typing import Any

from numpy.typing import ArrayLike

from negserve._calls.sample_stream import SampleStream
from negserve._protocol.sample_exchange import SampleExchange
from negserve._protocol.sampler_echo import SamplerEcho
from negserve._sync.blocking import run
from negserve._sync.connection import Connection
from negserve._sync.interrupts import held
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset


class RemoteSampler:
    """Draws negatives on a server. Thread-safe; pickled as its configuration.

    A stream that breaks or stalls is opened again, on the next replica if there are several, as
    long as the client's patience lasts, and what was not answered is sent again: the same
    positions give the same negatives.

    :param connection: to the dataset's server
    :param dataset: the dataset
    :param config: what to draw
    :raises NegserveError: typed by what the server said of the configuration
    """

    def __init__(self, connection: Connection, dataset: Dataset, config: SamplerConfig) -> None:
        self._connection = connection
        self._dataset = dataset
        self.config = config
        self._echo = SamplerEcho(dataset, config)
        self._set_up()
        with self._lock:
            run(self._stream.open)

    def _set_up(self) -> None:
        # A signal handler that closes the sampler may find the lock with its own thread.
        self._lock = threading.RLock()
        self._stream = SampleStream(self._connection, self._dataset, self.config, self._echo)
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "connection": self._connection,
            "dataset": self._dataset,
            "config": self.config,
            "echo": self._echo,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._connection, self._dataset = state["connection"], state["dataset"]
        self.config, self._echo = state["config"], state["echo"]
        self._set_up()

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n: a large batch travels in several
            messages
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises NegserveError: typed by what the server said
        """
        if self._process != os.getpid():
            self._set_up()
        exchange = SampleExchange(self._dataset, self.config, positives, position)
        with self._lock:
            run(self._stream.converse, exchange)
        return exchange.result()

    def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        if self._process != os.getpid():
            self._set_up()
        with self._lock, held():
            self._stream.close()
