"""The arrays that a kernel writes, and the batches that they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve_server.jit.addresses import NULL, address_of


@dataclass(frozen=True, slots=True)
class NegativeArrays:
    """Negatives of n positives, of one batch or of several.

    :ivar config: what is drawn
    :ivar replaced: new values, shape (rows, k), uint8, uint16 or uint32; one row a positive, or one
        a chunk
    :ivar counts: negatives of each slot, uint32, shape (3, n)
    :ivar is_saturated: bool, shape (n,)
    :ivar mask: bool, shape (n, k); None where ``is_saturated`` says which negatives are invalid:
        either none or all of a positive
    :ivar log_q: float32, shape (n, k); None if the configuration does not ask for it
    """

    config: SamplerConfig
    replaced: NDArray[np.unsignedinteger]
    counts: NDArray[np.uint32]
    is_saturated: NDArray[np.bool_]
    mask: NDArray[np.bool_] | None
    log_q: NDArray[np.float32] | None

    @classmethod
    def allocate(
        cls, config: SamplerConfig, dtype: np.dtype[np.unsignedinteger], n: int, num_rows: int
    ) -> NegativeArrays:
        """Allocate the arrays, with what a kernel expects in them.

        :param dtype: of new values
        :param num_rows: rows of new values
        """
        k = config.num_negs_per_pos
        is_partly_masked = config.filter_mode == "mask" or config.distinct or config.chunk_size > 1
        return cls(
            config=config,
            replaced=np.empty((num_rows, k), dtype=dtype),
            counts=np.empty((3, n), dtype=np.uint32),
            is_saturated=np.zeros(n, dtype=np.bool_),
            mask=np.ones((n, k), dtype=np.bool_) if is_partly_masked else None,
            log_q=np.empty((n, k), dtype=np.float32) if config.log_q else None,
        )

    def arguments(
        self,
    ) -> tuple[np.uint64, NDArray[np.uint32], NDArray[np.bool_], np.uint64, np.uint64]:
        """Give the arrays as kernels take them: ``replaced`` to ``log_q``."""
        return (
            address_of(self.replaced),
            self.counts,
            self.is_saturated,
            NULL if self.mask is None else address_of(self.mask),
            NULL if self.log_q is None else address_of(self.log_q),
        )

    def batch(self, position: int, positives: slice, rows: slice) -> CorruptedBatch:
        """Give the negatives of consecutive positives, without a copy of new values.

        :param position: of the first of them
        :param positives: which of the n
        :param rows: their rows of ``replaced``
        """
        is_saturated, mask = self.is_saturated[positives], self.mask
        if mask is not None:
            mask = mask[positives]
        elif self.config.masked:
            # Like np.broadcast_to, which takes as long as drawing some hundred negatives.
            shape = (len(is_saturated), self.config.num_negs_per_pos)
            mask = np.ndarray(shape, np.bool_, ~is_saturated, strides=(1, 0))
            mask.flags.writeable = False
        return CorruptedBatch(
            position=position,
            replaced=self.replaced[rows],
            head_counts=self.counts[0, positives],
            relation_counts=self.counts[1, positives],
            mask=mask,
            num_saturated=int(np.count_nonzero(is_saturated)),
            chunk_size=self.config.chunk_size,
            log_q=None if self.log_q is None else self.log_q[positives],
        )
