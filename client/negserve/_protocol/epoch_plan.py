"""Which positions each batch of a stream has: what a server's epoch must be."""

from __future__ import annotations

from dataclasses import dataclass

from negserve.types.epoch import EpochConfig


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The batches of a stream that begins at a position of the epoch, for one rank and worker.

    ``docs/sampling.md``, *Order of an epoch*, is the definition.

    :ivar config: which positives
    :ivar num_positives: of the whole epoch
    :ivar start: where the stream begins, 0 to ``num_positives``
    """

    config: EpochConfig
    num_positives: int
    start: int

    def __len__(self) -> int:
        """Count the batches; the same for every rank."""
        config, left = self.config, self.num_positives - self.start
        step = config.batch_size * config.world_size
        of_rank = left // step if config.tail == "drop" else -(-left // step)
        return max(0, -(-(of_rank - config.worker) // config.num_workers))

    def batch(self, index: int) -> tuple[int, int, int]:
        """Give a batch's first position within the epoch, its length, and its ``next_start``."""
        config = self.config
        step = config.batch_size * config.world_size
        begin = self.start + (config.worker + index * config.num_workers) * step
        next_start = begin + step
        if config.tail == "wrap" or next_start <= self.num_positives:
            first, length = begin + config.rank * config.batch_size, config.batch_size
        else:
            left = self.num_positives - begin
            first = begin + left * config.rank // config.world_size
            length = begin + left * (config.rank + 1) // config.world_size - first
        return first, length, min(next_start, self.num_positives)
