"""What samplers and evaluations need of a triples factory: remote, in process or on the client."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.answers.known_values import KnownValues
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.checks.invalid import check_integer
from negserve.types.config import Slot
from negserve.types.corrupted_batch import CorruptedBatch

#: Most batches of a stream that may be in flight.
MAX_AHEAD = 64


class ConfiguredSampler(Protocol):
    """Draws negatives of one configuration."""

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives, shape (n, 3), the i-th at ``position + i``."""
        ...

    def stream(
        self, batches: Iterable[tuple[ArrayLike, int]], ahead: int = 4
    ) -> Generator[CorruptedBatch, None, None]:
        """Corrupt batch after batch: positives, and the position of the first one.

        At most ``ahead`` batches are read whose negatives were not yielded. What reading raises is
        raised after those negatives.
        """
        ...

    def parts(self, positives: ArrayLike, position: int) -> Generator[CorruptedBatch, None, None]:
        """Corrupt positives as :meth:`sample` does, and give consecutive parts."""

    def close(self) -> None:
        """Release resources."""
        ...


def stream_in_turn(
    sample: Callable[[ArrayLike, int], CorruptedBatch],
    batches: Iterable[tuple[ArrayLike, int]],
    ahead: int,
) -> Generator[CorruptedBatch, None, None]:
    """Carry out :meth:`ConfiguredSampler.stream` where no answer travels: one after the other.

    :raises InvalidRequestError: for ``ahead`` outside 1 to :data:`MAX_AHEAD`
    """
    check_integer("ahead", ahead, 1, MAX_AHEAD)
    return (sample(positives, position) for positives, position in batches)


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
