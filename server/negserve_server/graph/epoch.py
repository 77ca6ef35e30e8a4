"""Epochs: every training triple once, in an order that any replica knows at any position."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from numpy.typing import NDArray

from negserve.types.checks.invalid import MAX_UINT64, check_integer, invalid_configuration
from negserve.types.corrupted_batch import num_rows
from negserve.types.epoch import EpochBatch, EpochConfig
from negserve_server.errors import PositionOutOfRange
from negserve_server.graph.epoch_batches import BatchPlace, EpochBatches
from negserve_server.sampling import Permutation, Sampler
from negserve_server.sampling.epoch_positives import EpochPositives
from negserve_server.sampling.slices import slices_of
from negserve_server.triple_columns import TripleColumns

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
        self.num_positives = len(triples) if rows is None else len(rows)
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
        order = (
            Permutation(self.num_positives, seed=sampler.config.seed, number=number)
            if config.shuffle
            else None
        )
        self._positives = EpochPositives(triples, rows, order)

    def __len__(self) -> int:
        """Count the batches of the worker; the same for every rank."""
        left = self.num_positives - self.start
        step = self.config.batch_size * self.config.world_size
        of_rank = left // step if self.config.tail == "drop" else -(-left // step)
        return max(0, -(-(of_rank - self.config.worker) // self.config.num_workers))

    def following(self) -> Epoch | None:
        """Make the next epoch, from its beginning.

        :return: None if the worker has no batch in it, or its positions would exceed 2^64 - 1
        """
        if self.number == MAX_UINT64:
            return None
        try:
            epoch = Epoch(
                self._triples, self._rows, self._weigh, self.sampler, self.config,
                number=self.number + 1,
            )  # fmt: skip
        except PositionOutOfRange:
            return None
        return epoch if len(epoch) else None

    def batch(self, index: int) -> EpochBatch:
        """Make a batch of the worker.

        :param index: 0 to ``len(self) - 1``; the global batch g is ``worker`` plus
            ``num_workers`` times that
        :raises IndexError: for another
        """
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        steps = self.batches_in_steps(range(index, index + 1))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: EpochBatches = end.value
                return made.batch(0)

    def batches_in_steps(self, indices: range) -> Generator[None, None, EpochBatches]:
        """Make batches together, in steps of some milliseconds.

        :param indices: consecutive, of batches as :meth:`batch` takes them
        """
        sampler, config = self.sampler.config, self.config
        places, runs, num_replaced = self._lay_out(indices)
        n = places[-1].positives.stop
        positives = np.empty((n, 3), dtype=np.int64)
        columns = self._positives.allocate(n)
        negatives = self.sampler.allocate(n, num_replaced)
        weights = np.empty(n, dtype=np.float32) if config.weights else None
        for rows in slices_of(n, sampler.num_negs_per_pos):
            if rows.start:
                yield
            self.sampler.draw_runs(
                self._positives, runs, rows, self._first, positives, columns, negatives
            )
            if weights is not None:
                weights[rows] = self._weigh(positives[rows])
        return EpochBatches(self.number, places, positives, columns, negatives, weights)

    def _lay_out(self, indices: range) -> tuple[list[BatchPlace], NDArray[np.int64], int]:
        """Lay out batches one behind the other in arrays.

        :return: their places; their runs as :meth:`Sampler.draw_runs` takes them: batches at
            consecutive places are one, which is drawn faster, and has the rows of chunks once; and
            the number of rows of new values
        """
        chunk = self.sampler.config.chunk_size
        places: list[BatchPlace] = []
        runs: list[tuple[int, int, int, int]] = []
        row = end_row = 0  # of positives, and of new values
        run_begin = run_row = run_replaced = 0
        run_end = -1
        for index in indices:
            begin, end, next_start = self._range(index)
            position = self._first + begin
            if begin != run_end:
                run_begin, run_row, run_replaced = begin, row, end_row
                runs.append((begin, row, 0, end_row))
            run_end = end
            runs[-1] = (run_begin, run_row, end - run_begin, run_replaced)
            first_chunk = (self._first + run_begin) // chunk
            first = run_replaced + position // chunk - first_chunk
            rows = slice(first, first + num_rows(position, end - begin, chunk))
            places.append(BatchPlace(position, next_start, slice(row, row + end - begin), rows))
            row, end_row = row + end - begin, max(end_row, rows.stop)
        return places, np.array(runs, dtype=np.int64), end_row

    def _range(self, index: int) -> tuple[int, int, int]:
        """Where a batch of the worker begins and ends within the epoch, and its ``next_start``."""
        config = self.config
        step = config.batch_size * config.world_size
        begin = self.start + (config.worker + index * config.num_workers) * step
        next_start = begin + step
        if config.tail == "wrap" or next_start <= self.num_positives:
            begin += config.rank * config.batch_size
            end = begin + config.batch_size
        else:
            left = self.num_positives - begin
            end = begin + left * (config.rank + 1) // config.world_size
            begin += left * config.rank // config.world_size
        return begin, end, min(next_start, self.num_positives)
