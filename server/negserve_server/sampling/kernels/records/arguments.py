"""Arguments of the kernels: the settings of a sampler, and the arrays of a call."""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import load_int64, load_uint64, store_uint64
from negserve_server.jit.constants import U0, U1, U2, U3, U8


class Settings(NamedTuple):
    """What a sampler tells its kernels, the same in every call: each a uint64.

    :ivar seed: key of the generator
    :ivar k: negatives per positive, or per chunk
    :ivar chunk_size: positions that share a row of values
    :ivar is_exact: 1 if known values are excluded, 0 if they are flagged in the mask
    :ivar is_filtered: 1 if there are known values
    :ivar is_distinct: 1 if the values of a cell are pairwise different
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar width: bytes of an id in the output: 1, 2 or 4
    :ivar num_cells: number of cells
    :ivar cell_table: address, see :mod:`.cell_table`
    :ivar cumulative_shares: address, uint64 of shape (num_relations, cells): cumulative shares of
        the cells in units of 2^-32; shape (1, cells) if all relations have the same
    :ivar shares_stride: bytes from one relation's cumulative shares to the next; 0 in that case
    :ivar member_table: address, uint64 of shape (cells, 2): address and layout of each
        cell's set of known values, see :mod:`negserve_server.index.members`; ``corrupt_one`` only
    :ivar is_one: 1 if ``corrupt_one`` draws
    """

    seed: int
    k: int
    chunk_size: int
    is_exact: int
    is_filtered: int
    is_distinct: int
    num_entities: int
    num_relations: int
    width: int
    num_cells: int
    cell_table: int
    cumulative_shares: int
    shares_stride: int
    member_table: int
    is_one: int


class Batch(NamedTuple):
    """Positives and output of a call: an address each, but for two uint64.

    :ivar positives: int64, shape (n, 3)
    :ivar num_positives: n
    :ivar position: position of the first positive
    :ivar replaced: new values, shape (rows, k)
    :ivar counts: uint32, shape (3, n): negatives of each slot
    :ivar mask: uint8, shape (n, k); NULL for none
    :ivar log_q: float32, shape (n, k); NULL for none
    """

    positives: int
    num_positives: int
    position: int
    replaced: int
    counts: int
    mask: int
    log_q: int


@nb.njit(inline="always")
def load_settings(address: int) -> Settings:
    """Load the settings, uint64 of shape (15,)."""
    return Settings(
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
        load_uint64(address, np.uint64(10)),
        load_uint64(address, np.uint64(11)),
        load_uint64(address, np.uint64(12)),
        load_uint64(address, np.uint64(13)),
        load_uint64(address, np.uint64(14)),
    )


@nb.njit(inline="always")
def make_batch(
    positives: NDArray[np.int64],
    position: int,
    replaced: int,
    counts: NDArray[np.uint32],
    mask: int,
    log_q: int,
) -> Batch:
    """Take the addresses of a call's arrays."""
    return Batch(
        np.uint64(positives.ctypes.data),
        np.uint64(positives.shape[0]),
        np.uint64(position),
        replaced,
        np.uint64(counts.ctypes.data),
        mask,
        log_q,
    )


@nb.njit(inline="always")
def load_triple(batch: Batch, i: int) -> tuple[int, int, int]:
    """Head, relation and tail of a positive, int64."""
    first = U3 * i
    return (
        load_int64(batch.positives, first),
        load_int64(batch.positives, first + U1),
        load_int64(batch.positives, first + U2),
    )


@nb.njit(inline="always")
def is_inside(settings: Settings, head: int, relation: int, tail: int) -> bool:
    """Whether all ids of a triple are in the id space; a negative one is large as uint64."""
    return (
        np.uint64(head) < settings.num_entities
        and np.uint64(relation) < settings.num_relations
        and np.uint64(tail) < settings.num_entities
    )


@nb.njit(inline="always")
def cumulative_shares_of(settings: Settings, relation: int) -> int:
    """Address of the cumulative shares of a relation's cells, uint64, shape (cells,)."""
    return settings.cumulative_shares + settings.shares_stride * np.uint64(relation)


@nb.njit(inline="always")
def clear(begin: int, end: int) -> None:
    """Fill memory between two addresses, multiples of 8, with zeros."""
    for i in range((end - begin) // U8):
        store_uint64(begin, i, U0)
