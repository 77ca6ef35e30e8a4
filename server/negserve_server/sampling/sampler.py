"""A configured sampler over one graph: a pure function from positives to negatives."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch, num_rows
from negserve.types.triples import as_triples
from negserve.types.triples_factory import stream_in_turn
from negserve_server.errors import PositionOutOfRange
from negserve_server.index.filter_index import check_ids
from negserve_server.jit.addresses import NULL, address_of
from negserve_server.jit.scratch import scratch
from negserve_server.sampling.draw_tables import DrawTables
from negserve_server.sampling.epoch_positives import EpochPositives
from negserve_server.sampling.kernels.corrupt import corrupt_scratch
from negserve_server.sampling.kernels.corrupt_chunks import chunks_scratch
from negserve_server.sampling.kernels.corrupt_one import one_scratch
from negserve_server.sampling.kernels.corrupt_rows import corrupt_rows
from negserve_server.sampling.kernels.epochs.draw_runs import draw_runs
from negserve_server.sampling.kernels.epochs.take_positives import TAKE_SCRATCH
from negserve_server.sampling.kernels.records.arguments import Settings
from negserve_server.sampling.negative_arrays import NegativeArrays
from negserve_server.triple_columns import TripleColumns

#: The version of the sampling function that this package computes.
ALGORITHM_VERSION = 2


def in_version(config: SamplerConfig) -> SamplerConfig:
    """Return the configuration with the algorithm version that it is computed in.

    :param config: of version 0 for the newest, or of that
    :raises InvalidRequestError: for a version that this package does not compute
    """
    if config.algorithm_version not in {0, ALGORITHM_VERSION}:
        raise invalid_configuration(
            "algorithm_version",
            config.algorithm_version,
            f"this server computes version {ALGORITHM_VERSION}; use that or 0",
            limit=ALGORITHM_VERSION,
        )
    if config.algorithm_version:
        return config
    return replace(config, algorithm_version=ALGORITHM_VERSION)


class Sampler:
    """Draws negatives as ``config`` says. Immutable; safe to use from many threads.

    :param config: what to draw
    :param tables: made for a configuration that differs from ``config`` at most in options that
        draw tables do not depend on
    :raises InvalidRequestError: for more distinct values of a chunk than candidates
    """

    def __init__(self, config: SamplerConfig, tables: DrawTables) -> None:
        num_candidates = int(tables.cells[0].candidates.counts[0])
        if config.distinct and config.chunk_size > 1 and config.num_negs_per_pos > num_candidates:
            raise invalid_configuration(
                "num_negs_per_pos",
                config.num_negs_per_pos,
                f"the distinct values of a chunk are at most the {num_candidates} candidates",
                limit=num_candidates,
            )
        self.config = config
        self.tables = tables
        #: Whether ``corrupt_one`` draws: one negative per positive, from all ids but excluded ones.
        self._is_one = (
            config.num_negs_per_pos == config.chunk_size == 1
            and tables.is_plain
            and config.filter_mode == "exact"
            and not config.distinct
            and not config.log_q
            and tables.has_members
        )
        cumulative_shares, shares_stride = tables.cumulative_shares_address
        num_entities, num_relations, _ = tables.num_ids
        settings = Settings(
            seed=config.seed,
            k=config.num_negs_per_pos,
            chunk_size=config.chunk_size,
            is_exact=config.filter_mode == "exact",
            is_filtered=config.filtered,
            is_distinct=config.distinct,
            num_entities=num_entities,
            num_relations=num_relations,
            width=tables.dtype.itemsize,
            num_cells=len(tables.cells),
            cell_table=int(address_of(tables.cell_table)),
            cumulative_shares=int(cumulative_shares),
            shares_stride=int(shares_stride),
            # Made now, in the thread that opens the sampler, and not with the first batch.
            member_table=int(
                address_of(tables.member_table) if self._is_one and config.filtered else NULL
            ),
            is_one=self._is_one,
        )
        #: The tables keep the arrays at the addresses alive.
        self._settings = np.array(settings, dtype=np.uint64)
        self._settings_address = address_of(self._settings)
        self._scratch_size = self._find_scratch_size()

    def _find_scratch_size(self) -> int:
        config = self.config
        num_cells, k = np.uint64(len(self.tables.cells)), np.uint64(config.num_negs_per_pos)
        if self._is_one:
            return int(one_scratch(NULL, num_cells).end)
        lay_out = chunks_scratch if config.chunk_size > 1 else corrupt_scratch
        return int(lay_out(NULL, num_cells, k, np.uint64(config.distinct)).end)

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3); they need not be triples of the graph
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises IdOutOfRange: if an id is not in the id space
        :raises PositionOutOfRange: if a position would not fit 64 bits
        :raises InvalidInput: for another shape or dtype
        """
        triples = as_triples(positives)
        n = len(triples)
        if position < 0 or position + n > 2**64:
            raise PositionOutOfRange(position=position, num_positives=n)
        drawn = self.allocate(n, num_rows(position, n, self.config.chunk_size))
        if not corrupt_rows(
            triples, 0, n, np.uint64(position), self._settings_address, *drawn.arguments(),
            scratch(self._scratch_size),
        ):  # fmt: skip
            check_ids(triples, self.tables.num_ids[0], self.tables.num_ids[1])
        return drawn.batch(position, slice(0, n), slice(0, None))

    def allocate(self, n: int, rows: int) -> NegativeArrays:
        """Allocate arrays for the negatives of n positives, with so many rows of new values."""
        return NegativeArrays.allocate(self.config, self.tables.dtype, n, rows)

    def draw_runs(
        self,
        source: EpochPositives,
        runs: NDArray[np.int64],
        rows: slice,
        first_position: int,
        positives: NDArray[np.int64],
        columns: TripleColumns,
        drawn: NegativeArrays,
    ) -> None:
        """Write some positives of an epoch, and their negatives, in one call without the GIL.

        What :meth:`sample` would draw for them.

        :param source: the epoch
        :param runs: positives at consecutive places, int64, shape (m, 4): of each run, its first
            place, the row of the arrays at which it begins, its number of rows, and the row of
            ``drawn.replaced`` at which it begins
        :param rows: which rows of the arrays to write
        :param first_position: position of the epoch's first place; positions must fit 64 bits
        :param positives: int64, shape (n, 3), written
        :param columns: the same once more, each of n rows in the width of its id space, written
        :param drawn: of n positives, written
        :raises IdOutOfRange: if an id of the epoch is not in the id space
        """
        end_row = draw_runs(
            runs, rows.start, rows.stop, np.uint64(first_position),
            source.address, self._settings_address, positives,
            address_of(columns.heads), address_of(columns.relations), address_of(columns.tails),
            *drawn.arguments(), scratch(max(self._scratch_size, TAKE_SCRATCH)),
        )  # fmt: skip
        if end_row >= 0:
            written = positives[rows.start : end_row]
            check_ids(written, self.tables.num_ids[0], self.tables.num_ids[1])

    def stream(
        self, batches: Iterable[tuple[ArrayLike, int]], ahead: int = 4
    ) -> Generator[CorruptedBatch, None, None]:
        """Corrupt batch after batch.

        :param batches: positives, and the position of the first one, as of :meth:`sample`
        :param ahead: accepted as by :class:`negserve.RemoteSampler`; nothing is drawn ahead here
        :raises InvalidRequestError: for ``ahead`` outside 1 to 64
        """
        return stream_in_turn(self.sample, batches, ahead)

    def parts(self, positives: ArrayLike, position: int) -> Generator[CorruptedBatch, None, None]:
        """Corrupt positives as :meth:`sample` does; here the only part is all of them."""
        yield self.sample(positives, position)

    def close(self) -> None:
        """Do nothing: a sampler in process holds no resource."""
