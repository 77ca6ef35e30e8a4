"""Where the positives of an epoch come from: its order, and the columns of its triples."""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from negserve_server.jit.addresses import load_uint64


class PositiveSource(NamedTuple):
    """What an epoch tells its kernels, the same in every call: each a uint64.

    :ivar num_positives: positives of the epoch
    :ivar num_left: size of the left half of its permutation
    :ivar num_right: size of the right half
    :ivar keys: address of the keys of the permutation; NULL if the order is that of the triples
    :ivar rows: address of int64, shape (num_positives,): row of each positive in the columns; NULL
        if they are all rows
    :ivar heads: address of the column of heads
    :ivar relations: address of the column of relations
    :ivar tails: address of the column of tails
    :ivar entity_width: bytes of a head or tail: 1, 2 or 4
    :ivar relation_width: bytes of a relation: 1, 2 or 4
    """

    num_positives: int
    num_left: int
    num_right: int
    keys: int
    rows: int
    heads: int
    relations: int
    tails: int
    entity_width: int
    relation_width: int


@nb.njit(inline="always")
def load_source(address: int) -> PositiveSource:
    """Load a source, uint64 of shape (10,)."""
    return PositiveSource(
        load_uint64(address, np.uint64(0)),
        load_uint64(address, np.uint64(1)),
        load_uint64(address, np.uint64(2)),
        load_uint64(address, np.uint64(3)),
        load_uint64(address, np.uint64(4)),
        load_uint64(address, np.uint64(5)),
        load_uint64(address, np.uint64(6)),
        load_uint64(address, np.uint64(7)),
        load_uint64(address, np.uint64(8)),
        load_uint64(address, np.uint64(9)),
    )
