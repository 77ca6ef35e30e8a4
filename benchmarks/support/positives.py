"""Batches of positives. Imports nothing of negserve, as PyKEEN's process uses it, too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_POSITIVES = 2**22
_MAX_BATCHES = 2**16


class Positives:
    """Training triples in random order, in batches, repeated without end.

    All cases of a graph take their batches from here in turn, so no case finds a recent batch in
    the processor's caches, as long as the graph is larger than the caches.

    :param triples: shape (n, 3)
    :param batch_size: positives per batch; repeated if the graph has fewer
    :ivar batches: each of shape (batch_size, 3)
    """

    def __init__(self, triples: NDArray[np.int64], batch_size: int) -> None:
        order = np.random.default_rng(0).permutation(len(triples))[:_MAX_POSITIVES]
        if len(order) < batch_size:
            order = np.resize(order, batch_size)
        num_batches = min(len(order) // batch_size, _MAX_BATCHES)
        self.batch_size = batch_size
        self.batches = np.split(triples[order[: num_batches * batch_size]], num_batches)
        self._at = 0

    def next(self) -> NDArray[np.int64]:
        """Return the next batch, shape (batch_size, 3)."""
        # Without a lock: two threads may get the same batch.
        self._at = (self._at + 1) % len(self.batches)
        return self.batches[self._at]
