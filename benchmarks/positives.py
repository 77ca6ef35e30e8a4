"""Batches of positives. Imports nothing of negserve: PyKEEN's process needs it, too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_POSITIVES = 2**22
_MAX_BATCHES = 2**16


class Positives:
    """Training triples in random order, in batches, again and again.

    All cases of a graph take their batches from here in turn: none finds in the caches what it or
    another was asked a moment ago, as long as the graph is larger than they are.

    :param triples: shape (n, 3)
    :param batch_size: positives per batch; if there are fewer, they are repeated
    :ivar batches: each shape (batch_size, 3)
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
        # Without a lock: two threads that ask at once may get the same one.
        self._at = (self._at + 1) % len(self.batches)
        return self.batches[self._at]
