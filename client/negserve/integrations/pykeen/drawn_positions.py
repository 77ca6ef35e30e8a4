"""Positions that follow from torch's generator, as all of PyKEEN's randomness does."""

from __future__ import annotations

from typing import Any

import torch

from negserve.sampling.ranks import Rank, checked_rank, distributed_rank, find_rank


class DrawnPositions:
    """Draws the position of each batch from torch's default generator.

    PyKEEN keeps the state of that generator in its checkpoints, seeds it by ``random_seed``, and
    torch seeds it anew in each worker and epoch. So a training that was resumed draws what one
    that never stopped draws, and further trainings, trials and replicates draw elsewhere.

    Ranks whose generators agree are 2^64 / world_size apart. Two batches of b positives overlap
    with a probability of 2b / 2^64: among 10^6 batches of 1,000, two of them share a position in
    1 of 18,000 trainings.

    Picklable.

    :param chunk_size: each position is a multiple of it
    :param rank: which rank; None to find it out, see :func:`negserve.sampling.ranks.find_rank`
    :param world_size: how many ranks there are; None likewise
    :raises InvalidRequestError: if ranks are given by halves, or the rank is not among them
    """

    def __init__(
        self, chunk_size: int = 1, rank: int | None = None, world_size: int | None = None
    ) -> None:
        self._chunk_size = chunk_size
        self._rank = checked_rank(rank, world_size)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker knows of no process group.
        found = self._find_rank()
        rank = found if found.world_size > 1 else self._rank
        return {"_chunk_size": self._chunk_size, "_rank": rank}

    def _find_rank(self) -> Rank:
        if self._rank is not None and self._rank.source == "arguments":
            return self._rank
        return distributed_rank() or self._rank or find_rank()

    def take(self, count: int) -> int:
        """Return the position of the first of as many positives."""
        high, low = torch.randint(2**32, (2,)).tolist()
        rank = self._find_rank()
        drawn = (high << 32 | low) + rank.rank * (2**64 // rank.world_size)
        position: int = drawn % (2**64 - count + 1)
        return position - position % self._chunk_size
