"""What samplers and evaluations need of a triples factory: remote, in process or on the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.config import Slot
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.known_values import KnownValues
from negserve.types.relation_statistics import RelationStatistics


class ConfiguredSampler(Protocol):
    """Draws negatives of one configuration."""

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives, shape (n, 3), the i-th at ``position + i``."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class TriplesFactory(Protocol):
    """A loaded graph: remote or computed on the client (``negserve.Client.triples_factory``).

    In process it is ``negserve_server.graph.TriplesFactory``; all give equal bytes.
    """

    @property
    def fingerprint(self) -> str:
        """SHA-256 of id space, triples and type constraints, 64 hexadecimal digits."""
        ...

    @property
    def split_fingerprints(self) -> Mapping[str, str]:
        """SHA-256 of id space and triples, by the name of each split that the graph has."""
        ...

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""
        ...

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""
        ...

    @property
    def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        ...

    def open_sampler(self, **options: Any) -> ConfiguredSampler:
        """Open a sampler; ``options`` are fields of :class:`negserve.SamplerConfig`."""
        ...

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Return for each triple, shape (n, 3), whether it is in one of the splits; shape (n,)."""
        ...

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Return the known values of a slot for each pair of ids of the other two slots.

        ``pairs`` has shape (n, 2), in the order head, relation, tail.
        """
        ...
