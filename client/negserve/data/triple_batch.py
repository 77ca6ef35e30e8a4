"""Batches of an epoch as tensors: whole triples, or compact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from negserve.sampling.expansion import expand, expand_columns, rebuild
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.epoch import EpochBatch

# torch has few operations on unsigned types except uint8, so the others travel as signed ones.
_TRAVELS_AS: dict[int, type[np.generic]] = {1: np.uint8, 2: np.int16, 4: np.int32}
_UNSIGNED: dict[int, type[np.generic]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_ALL_BITS = {torch.int16: 2**16 - 1, torch.int32: 2**32 - 1}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """The fields that both forms share.

    :ivar mask: bool, shape (m, k), True where valid; None if no negative can be invalid
    :ivar weights: float32, shape (m,): subsampling weights; None if not asked for
    :ivar log_q: float32, shape (m, k): log probability of each negative; None if not asked for
    :ivar epoch: number of the epoch
    :ivar next_start: position within the epoch at which the next global batch begins
    :ivar state: the stream's state after this batch, for ``load_state_dict``; equal on every rank,
        for any number of workers. Keep it in checkpoints.
    """

    mask: torch.Tensor | None
    weights: torch.Tensor | None
    log_q: torch.Tensor | None
    epoch: int
    next_start: int
    state: dict[str, int]

    def _mapped(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {
            name: function(value)
            for name, value in values.items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch with its tensors on a device.

        :param non_blocking: whether to return before the copy is done; works for pinned tensors
            only
        """
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch with its tensors in pinned memory; called by a DataLoader."""
        return self._mapped(lambda tensor: tensor.pin_memory())


@dataclass(frozen=True, kw_only=True, eq=False)
class TripleBatch(_Batch):
    """Positives and their negatives as whole triples.

    :ivar positives: int64, shape (m, 3); m may be 0 with tail ``short``
    :ivar negatives: int64, shape (m, k, 3); contiguous, but from a stream of form ``columns``
    """

    positives: torch.Tensor
    negatives: torch.Tensor

    @property
    def heads(self) -> torch.Tensor:
        """Heads of the negatives, int64, shape (m, k); contiguous with form ``columns``."""
        return self.negatives[..., 0]

    @property
    def relations(self) -> torch.Tensor:
        """Relations of the negatives, int64, shape (m, k); contiguous with form ``columns``."""
        return self.negatives[..., 1]

    @property
    def tails(self) -> torch.Tensor:
        """Tails of the negatives, int64, shape (m, k); contiguous with form ``columns``."""
        return self.negatives[..., 2]

    def expand(self) -> TripleBatch:
        """Return the batch itself, so that code may call ``expand`` on either form."""
        return self

    def as_tuple(self) -> tuple[torch.Tensor, ...]:
        """Return positives and negatives, then mask, weights and log_q unless None."""
        optional = (self.mask, self.weights, self.log_q)
        return (self.positives, self.negatives, *(each for each in optional if each is not None))


@dataclass(frozen=True, kw_only=True, eq=False)
class CompactTripleBatch(_Batch):
    """Positives and the replaced ids, in narrow types: the form for transfers.

    ``replaced``, ``head_counts`` and ``relation_counts`` hold unsigned numbers as bit patterns of
    signed types. The k negatives of a positive are grouped by slot: heads, relations, tails. With
    chunks, positives share rows: see :class:`negserve.CorruptedBatch`.

    :ivar positives: int16, int32 or int64, by the size of the id spaces, shape (m, 3)
    :ivar replaced: new values, uint8, int16 or int32, shape (rows, k)
    :ivar head_counts: uint8, int16 or int32, shape (m,)
    :ivar relation_counts: uint8, int16 or int32, shape (m,); None where no relation is replaced
    :ivar position: position of the first positive in the seed's stream
    :ivar chunk_size: number of consecutive positions that share a row
    """

    positives: torch.Tensor
    replaced: torch.Tensor
    head_counts: torch.Tensor
    relation_counts: torch.Tensor | None
    position: int
    chunk_size: int

    def expand(self) -> TripleBatch:
        """Rebuild whole triples, on the device of these tensors."""
        positives = self.positives.to(torch.int64)
        return TripleBatch(
            positives=positives,
            negatives=self._rebuilt(positives),
            mask=self.mask,
            weights=self.weights,
            log_q=self.log_q,
            epoch=self.epoch,
            next_start=self.next_start,
            state=self.state,
        )

    def _rebuilt(self, positives: torch.Tensor) -> torch.Tensor:
        if positives.device.type == "cpu":
            head_counts = _unsigned(self.head_counts)
            relation_counts = self.relation_counts
            batch = CorruptedBatch(
                position=self.position,
                replaced=_unsigned(self.replaced),
                head_counts=head_counts,
                relation_counts=(
                    np.zeros_like(head_counts)
                    if relation_counts is None
                    else _unsigned(relation_counts)
                ),
                mask=None,
                num_saturated=0,
                chunk_size=self.chunk_size,
            )
            return expand(batch, positives)
        return rebuild(
            positives,
            _widened(self.replaced),
            _widened(self.head_counts),
            None if self.relation_counts is None else _widened(self.relation_counts),
            position=self.position,
            chunk_size=self.chunk_size,
        )


def triple_batch(batch: EpochBatch, state: dict[str, int], *, by_column: bool) -> TripleBatch:
    """Convert a batch to whole triples.

    :param state: the stream's state after the batch
    :param by_column: whether heads, relations and tails are contiguous, instead of the triples
    """
    negatives, positives = batch.negatives, _tensor(batch.positives)
    return TripleBatch(
        positives=positives,
        negatives=(
            expand_columns(negatives, positives).permute(1, 2, 0)
            if by_column
            else expand(negatives, positives)
        ),
        mask=_optional(negatives.mask),
        weights=_optional(batch.weights),
        log_q=_optional(negatives.log_q),
        epoch=batch.epoch,
        next_start=batch.next_start,
        state=state,
    )


def compact_batch(batch: EpochBatch, largest_id: int, state: dict[str, int]) -> CompactTripleBatch:
    """Convert a batch to narrow tensors.

    :param largest_id: largest id of the graph, of an entity or a relation
    :param state: the stream's state after the batch
    """
    negatives = batch.negatives
    width = next((bits for bits in (16, 32) if largest_id < 2 ** (bits - 1)), 64)
    positives = batch.positives.astype(f"int{width}")
    return CompactTripleBatch(
        positives=torch.from_numpy(positives),
        replaced=_narrow(negatives.replaced),
        head_counts=_narrow(negatives.head_counts),
        relation_counts=(
            _narrow(negatives.relation_counts) if negatives.relation_counts.any() else None
        ),
        mask=_optional(negatives.mask),
        weights=_optional(batch.weights),
        log_q=_optional(negatives.log_q),
        position=negatives.position,
        chunk_size=negatives.chunk_size,
        epoch=batch.epoch,
        next_start=batch.next_start,
        state=state,
    )


def _narrow(array: NDArray[np.unsignedinteger]) -> torch.Tensor:
    return _tensor(array.view(_TRAVELS_AS[array.dtype.itemsize]))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # Arrays of a message are read-only, and tensors can't be.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _optional(array: NDArray[Any] | None) -> torch.Tensor | None:
    return None if array is None else _tensor(array)


def _unsigned(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.numpy().view(_UNSIGNED[tensor.element_size()])


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    wide = tensor.to(torch.int64)
    bits = _ALL_BITS.get(tensor.dtype)
    return wide if bits is None else torch.bitwise_and(wide, bits)
