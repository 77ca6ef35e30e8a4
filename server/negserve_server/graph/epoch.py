"""Epochs: every training triple once, in an order that any replica knows at any position."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.types.checks.invalid import MAX_UINT64, check_integer, invalid_configuration
from negserve.types.corrupted_batch import CorruptedBatch, join_batches
from negserve.types.epoch import EpochBatch, EpochConfig
from negserve_server.errors import PositionOutOfRange
from negserve_server.sampling import Permutation, Sampler
from negserve_server.sampling.slices import slices_of
from negserve_server.triple_columns import TripleColumns

_Scalar = TypeVar("_Scalar", bound=np.generic)

#: How many relations an error names.
_MOST_SHOWN = 20


class Epoch:
    """The batches of one rank in one epoch. Immutable: any batch can be made at any time.

    :param triples: the training triples
    :param rows: rows of the triples of ``config.relations``, int64, shape (m,); None for all
    :param weigh: gives triples, shape (b, 3), their subsampling weights, float32, shape (b,)
    :param sampler: draws the negatives; its seed also draws the order
    :param config: which positives
    :param number: of the epoch, from 0 on
    :param start: position within the epoch at which to begin
    :raises InvalidRequestError: for a number or a start outside 0 to 2^64 - 1, a start after the
        end, or no row
    :raises PositionOutOfRange: if a position of the epoch would exceed 2^64 - 1
    """

    def __init__(
        self,
        triples: TripleColumns,
        rows: NDArray[np.int64] | None,
        weigh: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        sampler: Sampler,
        config: EpochConfig,
        *,
        number: int = 0,
        start: int = 0,
    ) -> None:
        check_integer("epoch", number, 0, MAX_UINT64)
        check_integer("start", start, 0, MAX_UINT64)
        self.config = config
        self.number = number
        self.start = start
        self.sampler = sampler
        self._triples = triples
        self._rows = rows
        self._weigh = weigh
        #: How many positives the epoch has.
        self.num_positives = len(self._triples) if self._rows is None else len(self._rows)
        if self.num_positives == 0:
            raise invalid_configuration(
                "relations",
                tuple((config.relations or ())[:_MOST_SHOWN]),
                "there are no training triples of them",
            )
        if start > self.num_positives:
            raise invalid_configuration(
                "start",
                start,
                f"the epoch has {self.num_positives} positions",
                limit=self.num_positives,
            )
        self._first = number * self.num_positives
        num_positions = self.num_positives
        if config.tail == "wrap":
            step = config.batch_size * config.world_size
            num_positions = max(num_positions, start + len(self) * step)
        if self._first + num_positions > 2**64:
            raise PositionOutOfRange(position=self._first, num_positives=num_positions)
        self._order = Permutation(self.num_positives, seed=sampler.config.seed, number=number)

    def __len__(self) -> int:
        """Count the batches of the worker; the same for every rank."""
        left = self.num_positives - self.start
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
        begin = self.start + index * config.batch_size * config.world_size
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
            epoch=self.number,
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
            pieces.append(self._triples.rows(chosen))
            begin, count = begin + here, count - here
        return _joined(pieces) if pieces else np.empty((0, 3), dtype=np.int64)


def _joined(parts: list[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
