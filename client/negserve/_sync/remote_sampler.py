"""A sampler on a server, over one stream."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import ArrayLike

from negserve._calls.per_process import PerProcess
from negserve._calls.sampler_stream import SamplerStream
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._sync.interrupts import held, run_sync
from negserve._sync.transport import SyncTransport
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset


class RemoteSampler:
    """Draws negatives on a server. Thread-safe; pickled as its configuration.

    A stream that breaks or stalls is opened again, on the next replica if there are several, as
    long as the client's patience lasts, and what was not answered is sent again: the same
    positions give the same negatives.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param config: which negatives to draw
    :raises NegserveError: as the server's status says
    """

    def __init__(self, transport: SyncTransport, dataset: Dataset, config: SamplerConfig) -> None:
        self._set_up(transport, dataset, config, SamplerEcho(dataset, config))
        opened = self._opened.value
        with opened.lock:
            run_sync(opened.stream.open)

    def _set_up(
        self, transport: SyncTransport, dataset: Dataset, config: SamplerConfig, echo: SamplerEcho
    ) -> None:
        self.config = config
        self._state = transport, dataset, config, echo
        self._opened = PerProcess(lambda: _Opened(transport, dataset, config, echo))

    def __getstate__(self) -> tuple[Any, ...]:
        return self._state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._set_up(*state)

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n: a large batch travels in several
            messages
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises NegserveError: as the server's status says
        """
        opened = self._opened.value
        pipeline = opened.stream.pipeline(positives, position)
        with opened.lock:
            return run_sync(opened.stream.run, pipeline)

    def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        opened = self._opened.value
        with opened.lock, held():
            opened.stream.close()


class _Opened:
    """The stream of one process, and the lock of its threads."""

    def __init__(
        self, transport: SyncTransport, dataset: Dataset, config: SamplerConfig, echo: SamplerEcho
    ) -> None:
        # Reentrant: a signal handler that closes the sampler may run while its thread has the lock.
        self.lock = threading.RLock()
        self.stream = SamplerStream(transport, dataset, config, echo)
