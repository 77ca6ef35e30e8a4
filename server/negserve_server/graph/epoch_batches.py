"""Batches of an epoch that were drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from negserve.types.epoch import EpochBatch
from negserve_server.sampling.negative_arrays import NegativeArrays
from negserve_server.triple_columns import TripleColumns


class BatchPlace(NamedTuple):
    """Where a batch is in its epoch, and in the arrays of the batches drawn together.

    :ivar position: of the first positive, in the stream of the seed
    :ivar next_start: position within the epoch at which the next global batch begins
    :ivar positives: which positives of the arrays
    :ivar rows: which rows of new values: those of these positives
    """

    position: int
    next_start: int
    positives: slice
    rows: slice


@dataclass(frozen=True, slots=True)
class EpochBatches:
    """Consecutive batches of one rank and worker. Their arrays are parts of these.

    :ivar epoch: number of the epoch
    :ivar places: of the batches, one each
    :ivar positives: int64, shape (n, 3)
    :ivar columns: the same, each column in the width of its id space
    :ivar negatives: of the positives
    :ivar weights: float32, shape (n,); None if not asked for
    """

    epoch: int
    places: Sequence[BatchPlace]
    positives: NDArray[np.int64]
    columns: TripleColumns
    negatives: NegativeArrays
    weights: NDArray[np.float32] | None

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.places)

    def batch(self, index: int) -> EpochBatch:
        """Give a batch, without a copy of its positives and new values."""
        place = self.places[index]
        return EpochBatch(
            epoch=self.epoch,
            next_start=place.next_start,
            positives=self.positives[place.positives],
            negatives=self.negatives.batch(place.position, place.positives, place.rows),
            weights=None if self.weights is None else self.weights[place.positives],
        )
