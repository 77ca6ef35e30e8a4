"""A sampler that computes in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch

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

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalSampler, (self._factory, self.config)

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises InvalidRequestError: for ids outside the id space, and positions above 2^64 - 1
        """
        return self._sampler.sample(positives, position)

    def close(self) -> None:
        """Do nothing: a sampler in this process holds no place on the server."""
