"""Positions drawn from torch's generator, the source of all of PyKEEN's randomness."""

from __future__ import annotations

from typing import Any

import torch

from negserve._calls.process_rank import Rank, distributed_rank
from negserve.sampling.ranks import checked_rank, find_rank


class DrawnPositions:
    """Draws the position of each batch from torch's default generator.

    PyKEEN saves the state of that generator in its checkpoints and seeds it by ``random_seed``;
    torch seeds it anew in each worker and epoch. So a resumed training draws what an uninterrupted
    one draws, and other trainings, trials and replicates draw at other positions.

    Ranks whose generators have equal states are 2^64 / world_size apart. Two batches of b positives
    overlap with a probability of 2b / 2^64: among 10^6 batches of 1,000, two of them share a
    position in 1 of 18,000 trainings.

    Picklable.

    :param chunk_size: each position is a multiple of it
    :param rank: this rank; None to find it, see :func:`negserve.sampling.ranks.find_rank`
    :param world_size: number of ranks; None to find it
    :raises InvalidRequestError: if only one of both is given, or the rank is not below world_size
    """

    def __init__(
        self, chunk_size: int = 1, rank: int | None = None, world_size: int | None = None
    ) -> None:
        self._chunk_size = chunk_size
        self._rank = checked_rank(rank, world_size)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker has no process group, so the rank travels along.
        found = self._find_rank()
        rank = found if found.world_size > 1 else self._rank
        return {"_chunk_size": self._chunk_size, "_rank": rank}

    def _find_rank(self) -> Rank:
        if self._rank is not None and self._rank.source == "arguments":
            return self._rank
        return distributed_rank() or self._rank or find_rank()

    def take(self, count: int) -> int:
        """Draw the position of the first of ``count`` positives."""
        high, low = torch.randint(2**32, (2,)).tolist()
        rank = self._find_rank()
        drawn = (high << 32 | low) + rank.rank * (2**64 // rank.world_size)
        position: int = drawn % (2**64 - count + 1)
        return position - position % self._chunk_size
