"""Which rank of a training this process has: the given one, or the one that it finds."""

from __future__ import annotations

from negserve._calls.process_rank import Rank, distributed_rank, launched_rank
from negserve.errors import InvalidRequestError


def checked_rank(rank: int | None, world_size: int | None) -> Rank | None:
    """Check a given rank; None if none is given.

    :raises InvalidRequestError: if only one of both is given, or the rank is not below world_size
    """
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise InvalidRequestError(
            f"rank={rank}, world_size={world_size}; give both, or neither for torch.distributed's"
        )
    if not 0 <= rank < world_size:
        raise InvalidRequestError(
            f"rank={rank}, world_size={world_size}; give a rank from 0 to world_size - 1"
        )
    return Rank(rank, world_size, "arguments")


def find_rank(rank: int | None = None, world_size: int | None = None) -> Rank:
    """Find the rank of this process.

    The given rank takes precedence, then torch.distributed's if initialised, then the launcher's:
    ``RANK`` and ``WORLD_SIZE``, or the variables of MPI or SLURM.

    :raises InvalidRequestError: as :func:`checked_rank` and :func:`launched_rank`
    """
    return checked_rank(rank, world_size) or distributed_rank() or launched_rank()
