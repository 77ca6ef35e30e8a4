"""A configured sampler over one graph: a pure function from positives to negatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve_server.errors import InvalidInput, PositionOutOfRange
from negserve_server.index.filter_index import check_ids
from negserve_server.sampling.batch import CorruptedBatch
from negserve_server.sampling.config import SamplerConfig
from negserve_server.sampling.domain import Domain
from negserve_server.sampling.kernels import corrupt


def as_triples(triples: ArrayLike) -> NDArray[np.int64]:
    """Check shape and dtype of triples.

    :return: int64, C-contiguous, shape (n, 3)
    :raises InvalidInput: for another shape, or ids that are not integers
    """
    array = np.asarray(triples)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InvalidInput(
            f"triples have shape {array.shape}; give (n, 3): head, relation, tail",
            reason="SHAPE_MISMATCH",
            value=array.shape,
            limit="(n, 3)",
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidInput(
            f"triples have dtype {array.dtype}; give integer ids",
            reason="SHAPE_MISMATCH",
            value=array.dtype,
            limit="an integer dtype",
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InvalidInput(
            f"triples have an id {array.max()}; an id space holds at most 2^32",
            reason="ENTITY_ID_OUT_OF_RANGE",
            value=array.max(),
            limit=2**32,
        )
    # Read-only arrays are another type to numba: a copy is cheaper than another compilation.
    return np.require(array, dtype=np.int64, requirements=["C", "W"])


class Sampler:
    """Draws negatives as ``config`` says. Immutable; safe to use from many threads.

    :param config: what to draw
    :param domain: the legal values, made for a configuration that differs from ``config``
        in k and seed at most
    """

    def __init__(self, config: SamplerConfig, domain: Domain) -> None:
        self.config = config
        self.domain = domain

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3); they need not be triples of the graph
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises IdOutOfRange: if an id is not in the id space
        :raises PositionOutOfRange: if a position would not fit 64 bits
        :raises InvalidInput: for another shape or dtype
        """
        domain = self.domain
        triples = as_triples(positives)
        n, k = len(triples), self.config.num_negs_per_pos
        if position < 0 or position + n > 2**64:
            raise PositionOutOfRange(position=position, num_positives=n)
        replaced = np.empty((n, k), dtype=domain.dtype)
        counts = np.empty((3, n), dtype=np.uint32)
        saturated = np.empty(n, dtype=np.bool_)
        all_inside = corrupt(
            triples,
            np.uint64(position),
            np.uint64(self.config.seed),
            domain.slot_ends,
            domain.scheme,
            domain.places,
            replaced,
            counts,
            saturated,
        )
        if not all_inside:
            check_ids(triples, domain.num_entities, domain.num_relations)
        mask: NDArray[np.bool_] | None = None
        if self.config.filtered:
            mask = np.broadcast_to(~saturated[:, None], (n, k))
        return CorruptedBatch(
            position=position,
            replaced=replaced,
            head_counts=counts[0],
            relation_counts=counts[1],
            mask=mask,
            num_saturated=int(saturated.sum()),
        )

    def close(self) -> None:
        """Do nothing: a sampler in process holds nothing that must be given back."""
