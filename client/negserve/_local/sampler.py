"""A sampler that computes in this process."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from negserve._local.engine import first_positives
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.triples import as_triples
from negserve.types.triples_factory import stream_in_turn
from negserve.types.warning_categories import UnknownPositivesWarning, warn

if TYPE_CHECKING:
    from negserve._local.triples_factory import LocalTriplesFactory


class LocalSampler:
    """Draws negatives in this process, with the bytes that the server would send.

    Thread-safe; pickled as its dataset and configuration.

    :param factory: the dataset
    :param config: which negatives to draw
    :raises InvalidRequestError: if the graph can't serve the configuration
    """

    def __init__(self, factory: LocalTriplesFactory, config: SamplerConfig) -> None:
        self.config = config
        self._factory = factory
        self._sampler = factory.graph.sampler(config)
        self._lock = threading.Lock()
        self._first_positives = first_positives(factory.name, factory.graph)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalSampler, (self._factory, self.config)

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises InvalidRequestError: for ids outside the id space, and positions above 2^64 - 1
        :raises UnknownPositivesWarning: where Python is told to raise it, if most of the first
            positives are not triples of the dataset
        """
        batch = self._sampler.sample(positives, position)
        first = self._first_positives
        text = None
        if first.is_checking:
            with self._lock:
                first.add(as_triples(positives))
                text = first.check() if first.are_complete else None
        if text is not None:
            warn(text, UnknownPositivesWarning)
        return batch

    def stream(
        self, batches: Iterable[tuple[ArrayLike, int]], ahead: int = 4
    ) -> Generator[CorruptedBatch, None, None]:
        """Corrupt batch after batch.

        :param batches: positives, and the position of the first one, as of :meth:`sample`
        :param ahead: accepted as by :class:`negserve.RemoteSampler`; nothing is drawn ahead here
        :raises InvalidRequestError: as :meth:`sample`, and for ``ahead`` outside 1 to 64
        """
        return stream_in_turn(self.sample, batches, ahead)

    def parts(self, positives: ArrayLike, position: int) -> Generator[CorruptedBatch, None, None]:
        """Corrupt positives as :meth:`sample` does; here the only part is all of them."""
        yield self.sample(positives, position)

    def close(self) -> None:
        """Do nothing: a sampler in this process holds no place on the server."""
