"""Positives in slices: a large batch is drawn in steps, between which other calls run."""

from __future__ import annotations

from collections.abc import Iterator

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
