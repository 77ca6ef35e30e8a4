"""Positives in parts: a large batch is drawn in steps, so that others come in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.batch import CorruptedBatch

#: Negatives of one part: some milliseconds. In parts of one, large requests took a third more of
#: the processor, as threads wait for each other at the end of each.
PART_WORK = 1 << 20
#: What a positive takes besides its negatives, as a number of those.
_POSITIVE_WORK = 8


def work_of(num_positives: int, num_negs_per_pos: int) -> int:
    """Say how much work positives are, as a number of negatives."""
    return num_positives * (num_negs_per_pos + _POSITIVE_WORK)


def parts_of(num_positives: int, num_negs_per_pos: int) -> Iterator[slice]:
    """Cut positives into parts of about equal work, at least one."""
    step = max(1, PART_WORK // (num_negs_per_pos + _POSITIVE_WORK))
    for first in range(0, max(num_positives, 1), step):
        yield slice(first, min(first + step, num_positives))


def join(parts: Sequence[CorruptedBatch]) -> CorruptedBatch:
    """Make one batch of those of consecutive positives; equal to drawing them all at once."""
    if len(parts) == 1:
        return parts[0]
    chunk = parts[0].chunk_size

    def joined(get: Callable[[CorruptedBatch], NDArray[np.generic] | None]) -> NDArray[np.generic]:
        return np.concatenate([get(part) for part in parts])

    # A row of a chunk that lies in two parts is in both.
    rows = [parts[0].replaced]
    rows += [part.replaced[1 if part.position % chunk else 0 :] for part in parts[1:]]
    return CorruptedBatch(
        position=parts[0].position,
        replaced=np.concatenate(rows),
        head_counts=joined(lambda part: part.head_counts),  # type: ignore[arg-type]
        relation_counts=joined(lambda part: part.relation_counts),  # type: ignore[arg-type]
        mask=None if parts[0].mask is None else joined(lambda part: part.mask),  # type: ignore[arg-type]
        num_saturated=sum(part.num_saturated for part in parts),
        chunk_size=chunk,
        log_q=None if parts[0].log_q is None else joined(lambda part: part.log_q),  # type: ignore[arg-type]
    )
