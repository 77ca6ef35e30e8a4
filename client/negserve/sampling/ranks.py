"""Detection of this process's rank in a training."""

from __future__ import annotations

import os
from typing import NamedTuple

from torch import distributed

from negserve.errors import InvalidRequestError

#: Environment variables of launchers: torchrun and compatible ones, MPI's, SLURM's srun.
_LAUNCH_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


class Rank(NamedTuple):
    """A process among those that train together.

    :ivar rank: 0 to ``world_size`` - 1
    :ivar world_size: number of processes that train together
    :ivar source: origin of the rank: ``arguments``, ``torch.distributed``, the name of a launcher's
        variable, or empty for a process on its own
    """

    rank: int
    world_size: int
    source: str = ""


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


def distributed_rank() -> Rank | None:
    """Return torch.distributed's rank; None where it is not initialised."""
    if distributed.is_available() and distributed.is_initialized():
        return Rank(distributed.get_rank(), distributed.get_world_size(), "torch.distributed")
    return None


def launched_rank() -> Rank:
    """Return the rank from a launcher's variables; rank 0 of 1 without them.

    :raises InvalidRequestError: if the variables give a number of ranks but no rank, or an invalid
        rank
    """
    for rank_name, size_name in _LAUNCH_VARIABLES:
        size = os.environ.get(size_name, "1")
        if size == "1":
            continue
        rank = os.environ.get(rank_name)
        if rank is None:
            raise InvalidRequestError(
                f"{size_name} is {size}, but {rank_name} is not set and torch.distributed is not "
                f"initialised: call init_process_group first, or give rank and world_size"
            )
        if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
            raise InvalidRequestError(
                f"{rank_name}={rank!r}, {size_name}={size!r} are not a valid rank; call "
                f"init_process_group first, or give rank and world_size"
            )
        return Rank(int(rank), int(size), rank_name)
    return Rank(0, 1)


def find_rank(rank: int | None = None, world_size: int | None = None) -> Rank:
    """Find the rank of this process.

    The given rank takes precedence, then torch.distributed's if initialised, then the launcher's:
    ``RANK`` and ``WORLD_SIZE``, or the variables of MPI or SLURM.

    :raises InvalidRequestError: as :func:`checked_rank` and :func:`launched_rank`
    """
    return checked_rank(rank, world_size) or distributed_rank() or launched_rank()
