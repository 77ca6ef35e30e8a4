"""Positives in slices: a large batch is drawn in steps, between which other calls run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.batch import CorruptedBatch

#: Negatives of one slice, which takes some milliseconds. With slices of 1 ms, large requests took a
#: third more processor time, since threads wait for each other at the end of each slice.
SLICE_WORK = 1 << 20
#: Work of a positive besides its negatives, as a number of negatives.
_POSITIVE_WORK = 8


def work_of(num_positives: int, num_negs_per_pos: int) -> int:
    """Work of a batch, as a number of negatives."""
    return num_positives * (num_negs_per_pos + _POSITIVE_WORK)


def slices_of(num_positives: int, num_negs_per_pos: int) -> Iterator[slice]:
    """Divide a batch into slices of about equal work; at least one, empty for an empty batch."""
    step = max(1, SLICE_WORK // (num_negs_per_pos + _POSITIVE_WORK))
    for first in range(0, max(num_positives, 1), step):
        yield slice(first, min(first + step, num_positives))


def join_batches(batches: Sequence[CorruptedBatch]) -> CorruptedBatch:
    """Join the batches of consecutive positives into the batch that one call would draw."""
    if len(batches) == 1:
        return batches[0]
    chunk = batches[0].chunk_size

    def joined(get: Callable[[CorruptedBatch], NDArray[np.generic] | None]) -> NDArray[np.generic]:
        return np.concatenate([get(batch) for batch in batches])

    # A chunk that lies in two batches has its row in both.
    rows = [batches[0].replaced]
    rows += [batch.replaced[1 if batch.position % chunk else 0 :] for batch in batches[1:]]
    return CorruptedBatch(
        position=batches[0].position,
        replaced=np.concatenate(rows),
        head_counts=joined(lambda batch: batch.head_counts),  # type: ignore[arg-type]
        relation_counts=joined(lambda batch: batch.relation_counts),  # type: ignore[arg-type]
        mask=None if batches[0].mask is None else joined(lambda batch: batch.mask),  # type: ignore[arg-type]
        num_saturated=sum(batch.num_saturated for batch in batches),
        chunk_size=chunk,
        log_q=None if batches[0].log_q is None else joined(lambda batch: batch.log_q),  # type: ignore[arg-type]
    )
