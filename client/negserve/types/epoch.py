"""Epochs over a dataset's training triples: what to stream, and one batch of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from negserve.types.corrupted_batch import CorruptedBatch

Tail = Literal["short", "drop", "wrap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochConfig:
    """Which positives come in which order, and which of them are a rank's.

    The server validates it. ``docs/sampling.md``, *Order of an epoch*, says what it means.

    :ivar batch_size: b, positives of one batch of one rank
    :ivar rank: which rank, 0 to ``world_size`` - 1
    :ivar world_size: w, how many ranks share the epoch
    :ivar worker: which of the rank's workers, 0 to ``num_workers`` - 1
    :ivar num_workers: how many workers share the rank's batches: each takes every
        ``num_workers``-th, the first one from ``worker`` on
    :ivar tail: what becomes of the last positions of an epoch, fewer than b * w: ``short`` (they
        are divided among the ranks as evenly as can be), ``drop`` (they are left out) or
        ``wrap`` (the batch is filled from the epoch's beginning)
    :ivar shuffle: whether the order is drawn by seed and epoch; else it is that of the triples
    :ivar relations: only triples of these relations; None for all
    :ivar weights: whether each positive comes with its subsampling weight
    """

    batch_size: int = 1024
    rank: int = 0
    world_size: int = 1
    worker: int = 0
    num_workers: int = 1
    tail: Tail = "short"
    shuffle: bool = True
    relations: tuple[int, ...] | None = None
    weights: bool = False


@dataclass(frozen=True, slots=True)
class EpochBatch:
    """One batch of one rank.

    :ivar epoch: number of the epoch
    :ivar next_start: position within the epoch at which the next global batch begins
    :ivar positives: int64, shape (m, 3); m may be 0 with tail ``short``
    :ivar negatives: of the positives, in compact form
    :ivar weights: float32, shape (m,): subsampling weights 1 / sqrt(n(h, r) + n(r, t)); None if
        not asked for
    """

    epoch: int
    next_start: int
    positives: NDArray[np.int64]
    negatives: CorruptedBatch
    weights: NDArray[np.float32] | None

    def negative_triples(self) -> NDArray[np.int64]:
        """Rebuild the negatives as whole triples, shape (m, k, 3)."""
        return self.negatives.triples(self.positives)
