"""Expansion of compact batches to whole triples, on the device of the positives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.sampling.compiled_expansion import expanded_columns, expanded_triples
from negserve.types.corrupted_batch import CorruptedBatch

_SIGNED = {1: np.int8, 2: np.int16, 4: np.int32}


def _to_device(ids: NDArray[np.unsignedinteger], device: torch.device) -> torch.Tensor:
    """Move unsigned ids to a device in their narrow width, and widen them to int64 there."""
    # torch has few operations on unsigned types: ids travel as signed ones and are widened there.
    width = ids.dtype.itemsize
    signed = torch.from_numpy(ids.copy().view(_SIGNED[width])).to(device, non_blocking=True)
    return torch.bitwise_and(signed.to(torch.int64), 2 ** (8 * width) - 1)


def rebuild(
    positives: torch.Tensor,
    replaced: torch.Tensor,
    head_counts: torch.Tensor,
    relation_counts: torch.Tensor | None,
    *,
    position: int,
    chunk_size: int,
) -> torch.Tensor:
    """Rebuild whole negatives from tensors on one device.

    :param positives: int64, shape (n, 3)
    :param replaced: new values, int64, shape (rows, k): one row for each positive, or each chunk
    :param head_counts: int64, shape (n,)
    :param relation_counts: int64, shape (n,); None where no relation is replaced
    :param position: position of the first positive
    :param chunk_size: number of consecutive positions that share a row
    :return: int64, shape (n, k, 3)
    """
    device = positives.device
    if chunk_size > 1:
        # Each row was transferred once; it is repeated on the device.
        first = position % chunk_size
        rows = torch.arange(first, first + len(positives), device=device) // chunk_size
        replaced = replaced[rows]
    j = torch.arange(replaced.shape[1], device=device).unsqueeze(0)
    head_end = head_counts.unsqueeze(1)
    is_head = j < head_end
    heads, relations, tails = (positives[:, column, None] for column in range(3))
    # Written directly into the result: intermediate copies would double the time.
    negatives = torch.empty((*replaced.shape, 3), dtype=torch.int64, device=device)
    torch.where(is_head, replaced, heads, out=negatives[..., 0])
    if relation_counts is None:
        negatives[..., 1] = relations
        torch.where(is_head, tails, replaced, out=negatives[..., 2])
    else:
        is_tail = j >= head_end + relation_counts.unsqueeze(1)
        torch.where(is_head | is_tail, relations, replaced, out=negatives[..., 1])
        torch.where(is_tail, replaced, tails, out=negatives[..., 2])
    return negatives


def expand_into(batch: CorruptedBatch, positives: torch.Tensor, negatives: torch.Tensor) -> None:
    """Rebuild whole negatives as :func:`expand` does, in place.

    :param negatives: int64, shape (n, k, 3), in one piece, on the device of the positives
    """
    if positives.device.type == "cpu":
        expanded_triples(batch, positives.numpy(), negatives.numpy())
    else:
        negatives.copy_(_rebuilt(batch, positives))


def expand(batch: CorruptedBatch, positives: torch.Tensor) -> torch.Tensor:
    """Rebuild whole negatives.

    On the CPU numpy does it, or compiled code where numba is installed, in less time.

    :param batch: compact form of n positives with k negatives each; chunks may share values
    :param positives: int64, shape (n, 3), any device
    :return: int64, shape (n, k, 3), on the device of the positives
    :raises InvalidRequestError: for positives of another shape
    """
    if positives.device.type == "cpu":
        return torch.from_numpy(expanded_triples(batch, positives.numpy()))
    return _rebuilt(batch, positives)


def expand_columns(batch: CorruptedBatch, positives: torch.Tensor) -> torch.Tensor:
    """Rebuild heads, relations and tails of negatives apart, for models that look up each alone.

    ``heads, relations, tails = expand_columns(batch, positives)`` gives contiguous tensors, which
    take less time than those of :func:`expand`, to write and to look up.

    :param batch: compact form of n positives with k negatives each; chunks may share values
    :param positives: int64, shape (n, 3), any device
    :return: int64, shape (3, n, k), on the device of the positives
    :raises InvalidRequestError: for positives of another shape
    """
    if positives.device.type == "cpu":
        return torch.from_numpy(expanded_columns(batch, positives.numpy()))
    return _rebuilt(batch, positives).permute(2, 0, 1).contiguous()


def _rebuilt(batch: CorruptedBatch, positives: torch.Tensor) -> torch.Tensor:
    device, relation_counts = positives.device, batch.relation_counts
    if positives.shape != (batch.num_positives, 3):
        raise InvalidRequestError(
            f"positives have shape {tuple(positives.shape)}; give ({batch.num_positives}, 3): the "
            f"positives that were corrupted",
            reason="SHAPE_MISMATCH",
        )
    return rebuild(
        positives,
        _to_device(batch.replaced, device),
        _to_device(batch.head_counts, device),
        _to_device(relation_counts, device) if relation_counts.any() else None,
        position=batch.position,
        chunk_size=batch.chunk_size,
    )
