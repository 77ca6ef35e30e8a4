"""Epochs over a dataset's training triples: what to stream, and one batch of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from negserve.types.checks.invalid import (
    check_flag,
    check_integer,
    check_name,
    invalid_configuration,
    is_integer,
)
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.id_set import IdSet, legal_ids

Tail = Literal["short", "drop", "wrap"]
TAILS: tuple[Tail, ...] = ("short", "drop", "wrap")

#: Largest batch of one rank.
MAX_BATCH_SIZE = 2**20
#: Most ranks, and most workers of a rank.
MAX_WORLD_SIZE = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochConfig:
    """Which positives come in which order, and which of them are a rank's.

    ``docs/sampling.md``, *Order of an epoch*, says what it means. A global batch g covers the
    positions ``start + g * b * w`` to ``start + (g + 1) * b * w - 1`` of an epoch that is begun at
    ``start``.

    :ivar batch_size: b, positives of one batch of one rank, 1 to 2^20
    :ivar rank: which rank, 0 to ``world_size`` - 1
    :ivar world_size: w, how many ranks share the epoch, 1 to 2^16
    :ivar worker: which of the rank's workers, 0 to ``num_workers`` - 1
    :ivar num_workers: how many workers share the rank's batches: each takes every
        ``num_workers``-th, the first one from ``worker`` on; 1 to 2^16
    :ivar tail: what becomes of the last positions of an epoch, fewer than b * w: ``short`` (they
        are divided among the ranks as evenly as can be), ``drop`` (they are left out) or
        ``wrap`` (the batch is filled from the epoch's beginning)
    :ivar shuffle: whether the order is drawn by seed and epoch; else it is that of the triples
    :ivar relations: only triples of these relations, in any order, as a sequence or an array; None
        for all. Kept without repetitions, in ascending order
    :ivar weights: whether each positive comes with its subsampling weight
    :raises InvalidRequestError: naming the field, its value and what is legal
    """

    batch_size: int = 1024
    rank: int = 0
    world_size: int = 1
    worker: int = 0
    num_workers: int = 1
    tail: Tail = "short"
    shuffle: bool = True
    relations: Sequence[int] | None = None
    weights: bool = False

    def __post_init__(self) -> None:
        for field, highest in (
            ("batch_size", MAX_BATCH_SIZE),
            ("world_size", MAX_WORLD_SIZE),
            ("num_workers", MAX_WORLD_SIZE),
        ):
            check_integer(field, getattr(self, field), 1, highest)
        for field, of in (("rank", "world_size"), ("worker", "num_workers")):
            value, number = getattr(self, field), getattr(self, of)
            if not is_integer(value, 0, number - 1):
                raise invalid_configuration(
                    field,
                    value,
                    f"with {of}={number}, give a number from 0 to {number - 1}",
                    limit=number - 1,
                )
        check_name("tail", self.tail, TAILS)
        check_flag("shuffle", self.shuffle)
        check_flag("weights", self.weights)
        if self.relations is not None:
            if np.size(self.relations) == 0:
                raise invalid_configuration(
                    "relations", (), "there are no training triples of them"
                )
            ids = legal_ids("relations", self.relations, "give relation ids")
            object.__setattr__(self, "relations", ids)

    @property
    def relation_set(self) -> IdSet | None:
        """The relations as the set that they are kept as; None for all."""
        return None if self.relations is None else IdSet.of(self.relations)


@dataclass(frozen=True, slots=True)
class EpochBatch:
    """One batch of one rank.

    :ivar epoch: number of the epoch
    :ivar next_start: position within the epoch at which the next global batch begins
    :ivar positives: int64, shape (m, 3); m may be 0 with tail ``short``
    :ivar negatives: of the positives, in compact form; their positions in the stream of the seed
        are ``epoch * num_positives + p`` for position p within the epoch
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
