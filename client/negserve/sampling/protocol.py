"""What a sampler needs of a triples factory, remote or in process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class CompactBatch(Protocol):
    """The attributes of :class:`negserve.CorruptedBatch`."""

    @property
    def position(self) -> int: ...  # noqa: D102
    @property
    def replaced(self) -> NDArray[np.unsignedinteger]: ...  # noqa: D102
    @property
    def head_counts(self) -> NDArray[np.unsignedinteger]: ...  # noqa: D102
    @property
    def relation_counts(self) -> NDArray[np.unsignedinteger]: ...  # noqa: D102
    @property
    def mask(self) -> NDArray[np.bool_] | None: ...  # noqa: D102
    @property
    def num_saturated(self) -> int: ...  # noqa: D102
    @property
    def chunk_size(self) -> int: ...  # noqa: D102
    @property
    def log_q(self) -> NDArray[np.float32] | None: ...  # noqa: D102


class ConfiguredSampler(Protocol):
    """Draws negatives of one configuration."""

    def sample(self, positives: ArrayLike, position: int) -> CompactBatch:
        """Corrupt positives, shape (n, 3), the i-th at ``position + i``."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class TriplesFactory(Protocol):
    """A loaded graph: remote (``negserve.Client.triples_factory``) or in process.

    In process it is ``negserve_server.graph.TriplesFactory``; both give equal bytes.
    """

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""
        ...

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""
        ...

    def open_sampler(self, **options: Any) -> ConfiguredSampler:
        """Open a sampler; ``options`` are fields of :class:`negserve.SamplerConfig`."""
        ...

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Return for each triple, shape (n, 3), whether it is in one of the splits; shape (n,)."""
        ...
