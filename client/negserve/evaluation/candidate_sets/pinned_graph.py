"""What evaluation sets need of a triples factory, remote or in process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.types.config import SPLITS, Slot
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.known_values import KnownValues


class PinnedSampler(Protocol):
    """Draws negatives of one configuration."""

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives, shape (n, 3), the i-th at ``position + i``."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class PinnedGraph(Protocol):
    """A triples factory of any kind, with its fingerprints."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the graph, 64 hexadecimal digits."""
        ...

    @property
    def split_fingerprints(self) -> Mapping[str, str]:
        """SHA-256 of id space and triples, by split name."""
        ...

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""
        ...

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""
        ...

    def open_sampler(self, **options: Any) -> PinnedSampler:
        """Open a sampler; ``options`` are fields of :class:`negserve.SamplerConfig`."""
        ...

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Return for each triple, shape (n, 3), whether it is in one of the splits; shape (n,)."""
        ...

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Return the known values of a slot for each pair of ids of the other two slots."""
        ...


def triples_of_split(graph: PinnedGraph, split: str) -> NDArray[np.int64]:
    """Give the triples of a split of a graph that this process holds.

    :return: distinct, sorted by head, relation, tail, shape (n, 3)
    :raises InvalidRequestError: for a split that the graph has not, and for a remote graph
    """
    names = tuple(graph.split_fingerprints)
    if split not in names:
        raise InvalidRequestError(
            f"split={split!r} is not legal: this graph has {', '.join(names)}",
            reason="INVALID_CONFIGURATION",
            metadata={"field": "split", "value": split, "limit": ", ".join(names)},
        )
    held = getattr(getattr(graph, "graph", graph), "splits", None)
    if held is None:
        raise InvalidRequestError(
            f"split={split!r}: a remote graph does not give its triples; give them as an array, or "
            f"open the dataset with compute='client'",
            reason="INVALID_CONFIGURATION",
            metadata={"field": "split", "value": split},
        )
    triples: NDArray[np.int64] = held[split]
    return triples


def splits_of(graph: PinnedGraph, splits: Sequence[str]) -> tuple[str, ...]:
    """Return the splits that are named, or else all of a graph."""
    return tuple(splits) or tuple(name for name in SPLITS if name in graph.split_fingerprints)
