"""Batches of an epoch, drawn by one call: their positives, and the negatives of these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U3, U8
from negserve_server.sampling.kernels.corrupt_rows import corrupt_rows
from negserve_server.sampling.kernels.epochs.positive_source import load_source
from negserve_server.sampling.kernels.epochs.take_positives import take_positives
from negserve_server.sampling.kernels.records.arguments import load_settings

#: Positives that are taken and corrupted at a time, so that they are still in a cache.
_BLOCK = 4096


@compiled
def draw_runs(
    runs: NDArray[np.int64],
    first_row: int,
    end_row: int,
    first_position: int,
    source: int,
    sampler: int,
    positives: NDArray[np.int64],
    heads: int,
    relations: int,
    tails: int,
    replaced: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    mask: int,
    log_q: int,
    scratch: int,
) -> int:
    """Write some rows of the positives of runs of consecutive places, and of their negatives.

    :param runs: shape (m, 4), for each run: its first place in the epoch, its first row, its
        number of rows, and its first row of ``replaced``
    :param first_row: int64, the first row to write
    :param end_row: int64, the row after the last one to write
    :param first_position: uint64, position of place 0
    :param source: address of the
        :class:`~negserve_server.sampling.kernels.epochs.positive_source.PositiveSource`
    :param positives: shape (n, 3), written
    :param heads: address, shape (n,), in the width of its column, written; likewise ``relations``
        and ``tails``
    :param scratch: address of memory that is enough for ``take_positives`` and for ``corrupt_rows``

    The other parameters are those of :func:`~negserve_server.sampling.kernels.corrupt.corrupt`, for
    all n rows.

    :return: -1; or, if an id is outside its id space, the row after the positives written, with
        meaningless output otherwise
    """
    taken = load_source(source)
    settings = load_settings(sampler)
    triples = np.uint64(positives.ctypes.data)
    row_bytes = settings.k * settings.width
    for run in range(runs.shape[0]):
        place, run_row, num_rows, run_replaced = runs[run]
        begin, end = max(run_row, first_row), min(run_row + num_rows, end_row)
        run_position = np.uint64(first_position) + np.uint64(place)
        run_chunk = run_position // settings.chunk_size
        for row in range(begin, end, _BLOCK):
            block_end = min(row + _BLOCK, end)
            first = np.uint64(row)
            take_positives(
                taken,
                np.uint64(place + row - run_row),
                np.uint64(block_end - row),
                triples + U8 * U3 * first,
                heads + taken.entity_width * first,
                relations + taken.relation_width * first,
                tails + taken.entity_width * first,
                scratch,
            )
            position = run_position + np.uint64(row - run_row)
            replaced_row = np.uint64(run_replaced) + position // settings.chunk_size - run_chunk
            # corrupt adds the row to the position; without chunks, it also skips rows itself.
            rows_before = replaced_row if settings.chunk_size > 1 else np.uint64(0)
            if not corrupt_rows(
                positives, row, block_end, position - first, sampler,
                replaced + rows_before * row_bytes, counts, is_saturated, mask, log_q, scratch,
            ):  # fmt: skip
                return block_end
    return -1
