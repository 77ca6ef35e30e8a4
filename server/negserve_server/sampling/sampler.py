"""A configured sampler over one graph: a pure function from positives to negatives."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

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
from negserve_server.sampling.kernels.corrupt import corrupt, corrupt_scratch
from negserve_server.sampling.kernels.corrupt_chunks import chunks_scratch, corrupt_chunks
from negserve_server.sampling.kernels.corrupt_one import corrupt_one, one_scratch
from negserve_server.sampling.kernels.records.arguments import Settings

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
        n, k = len(triples), self.config.num_negs_per_pos
        if position < 0 or position + n > 2**64:
            raise PositionOutOfRange(position=position, num_positives=n)
        config, tables, chunk = self.config, self.tables, self.config.chunk_size
        replaced = np.empty((num_rows(position, n, chunk), k), dtype=tables.dtype)
        counts = np.empty((3, n), dtype=np.uint32)
        is_saturated = np.zeros(n, dtype=np.bool_)
        # Otherwise, either none or all negatives of a positive are invalid.
        is_partly_masked = config.filter_mode == "mask" or config.distinct or chunk > 1
        mask = np.ones((n, k), dtype=np.bool_) if is_partly_masked else None
        log_q = np.empty((n, k), dtype=np.float32) if config.log_q else None
        inputs = (np.uint64(position), self._settings_address)
        mask_address = NULL if mask is None else address_of(mask)
        log_q_address = NULL if log_q is None else address_of(log_q)
        outputs = (address_of(replaced), counts)
        memory = scratch(self._scratch_size)
        if chunk > 1:
            all_inside = corrupt_chunks(
                triples, *inputs, *outputs, mask_address, log_q_address, memory
            )
        elif self._is_one:
            all_inside = corrupt_one(triples, *inputs, *outputs, is_saturated, memory)
        else:
            all_inside = corrupt(
                triples, 0, n, *inputs, *outputs, is_saturated, mask_address, log_q_address, memory
            )
        if not all_inside:
            check_ids(triples, tables.num_ids[0], tables.num_ids[1])
        if config.masked and mask is None:
            # Like np.broadcast_to, which takes as long as drawing some hundred negatives.
            mask = np.ndarray((n, k), np.bool_, ~is_saturated, strides=(1, 0))
            mask.flags.writeable = False
        return CorruptedBatch(
            position=position,
            replaced=replaced,
            head_counts=counts[0],
            relation_counts=counts[1],
            mask=mask,
            num_saturated=int(np.count_nonzero(is_saturated)),
            chunk_size=chunk,
            log_q=log_q,
        )

    def stream(
        self, batches: Iterable[tuple[ArrayLike, int]], ahead: int = 4
    ) -> Generator[CorruptedBatch, None, None]:
        """Corrupt batch after batch.

        :param batches: positives, and the position of the first one, as of :meth:`sample`
        :param ahead: accepted as by :class:`negserve.RemoteSampler`; nothing is drawn ahead here
        :raises InvalidRequestError: for ``ahead`` outside 1 to 64
        """
        return stream_in_turn(self.sample, batches, ahead)

    def close(self) -> None:
        """Do nothing: a sampler in process holds no resource."""
