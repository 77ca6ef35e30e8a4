"""Epochs: every training triple once, in an order that any replica knows at any position."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.invalid import invalid_configuration
from negserve_server.errors import PositionOutOfRange
from negserve_server.sampling import CorruptedBatch, Permutation, Sampler
from negserve_server.sampling.slices import join_batches, slices_of

_Scalar = TypeVar("_Scalar", bound=np.generic)
Tail = Literal["short", "drop", "wrap"]
TAILS: tuple[Tail, ...] = ("short", "drop", "wrap")

#: How many relations an error names.
_MOST_SHOWN = 20
#: Largest batch of one rank, and most ranks.
MAX_BATCH_SIZE = 2**20
MAX_WORLD_SIZE = 2**16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochConfig:
    """Which positives come in which order, and which of them are a rank's.

    :ivar epoch: number of the epoch, from 0 on
    :ivar batch_size: b, positives of one batch of one rank
    :ivar rank: which rank, 0 to ``world_size`` - 1
    :ivar world_size: w, how many ranks share the epoch
    :ivar worker: which of the rank's workers, 0 to ``num_workers`` - 1
    :ivar num_workers: how many workers share the rank's batches: each takes every
        ``num_workers``-th, the first one from ``worker`` on
    :ivar start: position within the epoch at which to begin; global batch g covers the
        positions ``start + g * b * w`` to ``start + (g + 1) * b * w - 1``
    :ivar tail: what becomes of the last positions, fewer than b * w: ``short`` (they are
        divided among the ranks as evenly as can be), ``drop`` (they are left out) or ``wrap``
        (the batch is filled from the epoch's beginning)
    :ivar shuffle: whether the order is drawn by seed and epoch; else it is that of the triples
    :ivar relations: only triples of these relations, integers in any order; None for all. Kept as
        a read-only array of the distinct ones, ascending
    :ivar weights: whether each positive comes with its subsampling weight
    :raises InvalidRequestError: naming the field, its value and what is legal
    """

    epoch: int = 0
    batch_size: int = 1024
    rank: int = 0
    world_size: int = 1
    worker: int = 0
    num_workers: int = 1
    start: int = 0
    tail: Tail = "short"
    shuffle: bool = True
    relations: ArrayLike | None = None
    weights: bool = False

    def __post_init__(self) -> None:
        for field, lowest, highest in (
            ("epoch", 0, 2**64 - 1),
            ("batch_size", 1, MAX_BATCH_SIZE),
            ("world_size", 1, MAX_WORLD_SIZE),
            ("num_workers", 1, MAX_WORLD_SIZE),
            ("start", 0, 2**64 - 1),
        ):
            value = getattr(self, field)
            if not lowest <= value <= highest:
                raise invalid_configuration(
                    field, value, f"give a number from {lowest} to {highest}", limit=highest
                )
        for field, of in (("rank", "world_size"), ("worker", "num_workers")):
            value, number = getattr(self, field), getattr(self, of)
            if not 0 <= value < number:
                raise invalid_configuration(
                    field,
                    value,
                    f"with {of}={number}, give a number from 0 to {number - 1}",
                    limit=number - 1,
                )
        if self.tail not in TAILS:
            raise invalid_configuration(
                "tail", self.tail, f"choose from {', '.join(TAILS)}", limit=tuple(TAILS)
            )
        if self.relations is not None:
            object.__setattr__(self, "relations", _distinct(self.relations))


def _distinct(ids: ArrayLike) -> NDArray[np.integer]:
    """Sort ids and leave out repetitions; np.unique hashes, which takes many times as long."""
    ids = np.sort(np.asarray(ids, dtype=None if np.size(ids) else np.uint8))
    is_first = np.ones(len(ids), dtype=np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=is_first[1:])
    distinct: NDArray[np.integer] = ids[is_first]
    distinct.flags.writeable = False
    return distinct


@dataclass(frozen=True, slots=True)
class EpochBatch:
    """One batch of one rank.

    :ivar next_start: position within the epoch at which the next global batch begins
    :ivar positives: int64, shape (m, 3); m may be 0 with tail ``short``
    :ivar negatives: of the positives, whose positions in the stream of the seed are
        ``epoch * num_positives + p`` for position p within the epoch
    :ivar weights: float32, shape (m,): subsampling weights; None if not asked for
    """

    next_start: int
    positives: NDArray[np.int64]
    negatives: CorruptedBatch
    weights: NDArray[np.float32] | None


class Epoch:
    """The batches of one rank in one epoch. Immutable: any batch can be made at any time.

    :param triples: the training triples, int64, shape (n, 3)
    :param rows: rows of the triples of ``config.relations``, int64, shape (m,); None for all
    :param weigh: gives triples, shape (b, 3), their subsampling weights, float32, shape (b,)
    :param sampler: draws the negatives; its seed also draws the order
    :param config: which positives
    :raises InvalidRequestError: for a start after the end, or no row
    :raises PositionOutOfRange: if a position of the epoch would exceed 2^64 - 1
    """

    def __init__(
        self,
        triples: NDArray[np.int64],
        rows: NDArray[np.int64] | None,
        weigh: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        sampler: Sampler,
        config: EpochConfig,
    ) -> None:
        self.config = config
        self.sampler = sampler
        self._triples = triples
        self._rows = rows
        self._weigh = weigh
        #: How many positives the epoch has.
        self.num_positives = len(self._triples) if self._rows is None else len(self._rows)
        if self.num_positives == 0:
            raise invalid_configuration(
                "relations",
                tuple(np.asarray(config.relations)[:_MOST_SHOWN].tolist()),
                "there are no training triples of them",
            )
        if config.start > self.num_positives:
            raise invalid_configuration(
                "start",
                config.start,
                f"the epoch has {self.num_positives} positions",
                limit=self.num_positives,
            )
        self._first = config.epoch * self.num_positives
        num_positions = self.num_positives
        if config.tail == "wrap":
            step = config.batch_size * config.world_size
            num_positions = max(num_positions, config.start + len(self) * step)
        if self._first + num_positions > 2**64:
            raise PositionOutOfRange(position=self._first, num_positives=num_positions)
        self._order = Permutation(self.num_positives, seed=sampler.config.seed, number=config.epoch)

    def __len__(self) -> int:
        """Count the batches of the worker; the same for every rank."""
        left = self.num_positives - self.config.start
        step = self.config.batch_size * self.config.world_size
        of_rank = left // step if self.config.tail == "drop" else -(-left // step)
        return max(0, -(-(of_rank - self.config.worker) // self.config.num_workers))

    def batch(self, index: int) -> EpochBatch:
        """Make a batch of the worker.

        :param index: 0 to ``len(self) - 1``; the global batch g is ``worker`` plus
            ``num_workers`` times that
        :raises IndexError: for another
        """
        steps = self.batch_in_steps(index)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: EpochBatch = end.value
                return made

    def batch_in_steps(self, index: int) -> Generator[None, None, EpochBatch]:
        """Make what :meth:`batch` gives, in steps of some milliseconds.

        :raises IndexError: as :meth:`batch`
        """
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        config = self.config
        index = config.worker + index * config.num_workers
        begin = config.start + index * config.batch_size * config.world_size
        next_start = begin + config.batch_size * config.world_size
        if config.tail == "wrap" or next_start <= self.num_positives:
            begin += config.rank * config.batch_size
            end = begin + config.batch_size
        else:
            left = self.num_positives - begin
            end = begin + left * (config.rank + 1) // config.world_size
            begin += left * config.rank // config.world_size
        positives: list[NDArray[np.int64]] = []
        negatives: list[CorruptedBatch] = []
        weights: list[NDArray[np.float32]] = []
        for part in slices_of(end - begin, self.sampler.config.num_negs_per_pos):
            if positives:
                yield
            drawn = self._positives(begin + part.start, part.stop - part.start)
            positives.append(drawn)
            negatives.append(self.sampler.sample(drawn, self._first + begin + part.start))
            if config.weights:
                weights.append(self._weigh(drawn))
        return EpochBatch(
            next_start=min(next_start, self.num_positives),
            positives=_joined(positives),
            negatives=join_batches(negatives),
            weights=_joined(weights) if config.weights else None,
        )

    def _positives(self, begin: int, count: int) -> NDArray[np.int64]:
        """Positives at positions of the epoch; those behind the end are those of its beginning."""
        pieces = []
        while count > 0:
            begin %= self.num_positives
            here = min(count, self.num_positives - begin)
            rows = np.arange(begin, begin + here)
            if self.config.shuffle:
                rows = self._order.at(begin, here)
            chosen = rows if self._rows is None else self._rows[rows]
            pieces.append(self._triples.take(chosen, axis=0))  # three times as fast as [chosen]
            begin, count = begin + here, count - here
        return np.concatenate(pieces) if pieces else np.empty((0, 3), dtype=np.int64)


def _joined(parts: list[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
