"""From compact batches to whole triples, on the device of the positives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from negserve.corrupted_batch import CorruptedBatch

_SIGNED = {1: np.int8, 2: np.int16, 4: np.int32}


def _to_device(ids: NDArray[np.unsignedinteger], device: torch.device) -> torch.Tensor:
    """Move unsigned ids to a device as int64, in their narrow width if it is another one."""
    if device.type == "cpu":
        return torch.from_numpy(ids.astype(np.int64))
    # torch computes little with unsigned types: travel as signed, widen there.
    width = ids.dtype.itemsize
    signed = torch.from_numpy(ids.copy().view(_SIGNED[width])).to(device, non_blocking=True)
    return torch.bitwise_and(signed.to(torch.int64), 2 ** (8 * width) - 1)


def expand(batch: CorruptedBatch, positives: torch.Tensor) -> torch.Tensor:
    """Rebuild whole negatives.

    :param batch: compact form of n positives, k negatives each, with values of their own or
        shared by chunks
    :param positives: int64, shape (n, 3), any device
    :return: int64, shape (n, k, 3), on the device of the positives
    """
    device = positives.device
    replaced = _to_device(batch.replaced, device)
    if batch.chunk_size > 1:
        # The narrow rows travel once each; they are repeated where the positives are.
        first = batch.position % batch.chunk_size
        rows = torch.arange(first, first + batch.num_positives, device=device) // batch.chunk_size
        replaced = replaced[rows]
    k = replaced.shape[1]
    head_end = _to_device(batch.head_counts, device).unsqueeze(1)
    j = torch.arange(k, device=device).unsqueeze(0)
    is_head = j < head_end
    heads, relations, tails = (positives[:, column, None] for column in range(3))
    # Written where they belong at once: copies in between take as long as all else.
    negatives = torch.empty((*replaced.shape, 3), dtype=torch.int64, device=device)
    torch.where(is_head, replaced, heads, out=negatives[..., 0])
    if batch.relation_counts.any():
        relation_end = head_end + _to_device(batch.relation_counts, device).unsqueeze(1)
        is_entity = is_head | (j >= relation_end)
        torch.where(is_entity, relations, replaced, out=negatives[..., 1])
        torch.where(j >= relation_end, replaced, tails, out=negatives[..., 2])
    else:
        negatives[..., 1] = relations
        torch.where(is_head, tails, replaced, out=negatives[..., 2])
    return negatives
