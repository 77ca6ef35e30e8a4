"""The rank of this process, of torch.distributed or of the program that launched it."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

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


def distributed_rank() -> Rank | None:
    """Return torch.distributed's rank; None where it is not initialised, or not even imported."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
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


def process_rank() -> int | None:
    """Return the rank of this process among others; None if it is not known to be one of them."""
    try:
        found = distributed_rank() or launched_rank()
    except InvalidRequestError:
        return None
    return found.rank if found.source else None
