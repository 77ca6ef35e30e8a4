"""The sampling function for any configuration: one kernel, which calls the one that fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import U0, U1
from negserve_server.sampling.kernels.corrupt import corrupt
from negserve_server.sampling.kernels.corrupt_chunks import corrupt_chunks
from negserve_server.sampling.kernels.corrupt_one import corrupt_one
from negserve_server.sampling.kernels.records.arguments import load_settings


@compiled
def corrupt_rows(
    positives: NDArray[np.int64],
    first_row: int,
    end_row: int,
    position: int,
    sampler: int,
    replaced: int,
    counts: NDArray[np.uint32],
    is_saturated: NDArray[np.bool_],
    mask: int,
    log_q: int,
    scratch: int,
) -> bool:
    """Corrupt some positives by ``corrupt_chunks``, ``corrupt_one`` or ``corrupt``.

    Parameters are those of :func:`~negserve_server.sampling.kernels.corrupt.corrupt`; with
    ``chunk_size`` above 1, ``replaced`` begins with the row of the chunk of ``first_row``.
    """
    settings = load_settings(sampler)
    if settings.chunk_size > U1:
        return corrupt_chunks(
            positives, first_row, end_row, position, sampler, replaced, counts, mask, log_q, scratch
        )
    if settings.is_one != U0:
        return corrupt_one(
            positives, first_row, end_row, position, sampler, replaced, counts, is_saturated,
            scratch,
        )  # fmt: skip
    return corrupt(
        positives, first_row, end_row, position, sampler, replaced, counts, is_saturated,
        mask, log_q, scratch,
    )  # fmt: skip
