"""Positions for trainers that count their own batches."""

from __future__ import annotations

from negserve.errors import InvalidRequestError
from negserve.sampling.ranks import find_rank


def batch_position(
    epoch: int,
    batch: int,
    *,
    batch_size: int,
    num_batches: int,
    rank: int | None = None,
    world_size: int | None = None,
) -> int:
    """Return the position of a batch's first positive, for ``sampler.sample(..., position=...)``.

    No two batches of a training share a position, on any rank and in any epoch, as long as
    ``batch_size``, ``num_batches`` and the number of ranks do not change. Batch b of rank r of w
    ranks has position ((epoch * num_batches + b) * w + r) * batch_size.

    :param epoch: number of the epoch, from 0
    :param batch: number of the batch in this rank's epoch, 0 to ``num_batches`` - 1
    :param batch_size: positives of the largest batch; with chunks, a multiple of ``chunk_size``
    :param num_batches: batches of one rank in one epoch, the same on every rank
    :param rank: this rank; None for torch.distributed's if initialised, else that of the launcher's
        environment variables, else 0
    :param world_size: number of ranks; give it if and only if ``rank`` is given
    :return: 0 to 2^64 - 1
    :raises InvalidRequestError: for a number out of its range, or positions beyond 2^64 - 1
    """
    found = find_rank(rank, world_size)
    for name, value, least, most in (
        ("batch_size", batch_size, 1, 2**32),
        ("num_batches", num_batches, 1, 2**64),
        ("epoch", epoch, 0, 2**64),
        ("batch", batch, 0, num_batches - 1),
    ):
        if not least <= value <= most:
            raise InvalidRequestError(f"{name}={value}; give {least} to {most}")
    position = ((epoch * num_batches + batch) * found.world_size + found.rank) * batch_size
    if position + batch_size > 2**64:
        raise InvalidRequestError(
            f"batch {batch} of epoch {epoch} has position {position}, beyond {2**64 - 1}; use "
            f"another seed and start at epoch 0",
            reason="POSITION_OUT_OF_RANGE",
        )
    return position
