"""The positives of an epoch at some places, as rows and as columns."""

from __future__ import annotations

import numba as nb
import numpy as np

from negserve_server.jit.addresses import (
    NULL,
    load_uint8,
    load_uint16,
    load_uint32,
    load_uint64,
    store_uint8,
    store_uint16,
    store_uint32,
    store_uint64,
)
from negserve_server.jit.constants import U0, U1, U2, U3, U4, U8
from negserve_server.sampling.kernels.epochs.permute import permute
from negserve_server.sampling.kernels.epochs.positive_source import PositiveSource

#: Positives that are taken at a time: their rows and halves fit the first-level cache.
_BLOCK = np.uint64(1024)
#: Scratch memory of :func:`take_positives`, in bytes.
TAKE_SCRATCH = 16 * int(_BLOCK)


@nb.njit(inline="always")
def _take_column(
    column: int, width: int, rows: int, count: int, out: int, positives: int, slot: int
) -> None:
    """Copy ids of a column, in its width to ``out``, and as int64 to a slot of ``positives``."""
    if width == U2:
        for i in range(count):
            narrow = load_uint16(column, load_uint64(rows, i))
            store_uint16(out, i, narrow)
            store_uint64(positives, U3 * i + slot, np.uint64(narrow))
    elif width == U4:
        for i in range(count):
            wide = load_uint32(column, load_uint64(rows, i))
            store_uint32(out, i, wide)
            store_uint64(positives, U3 * i + slot, np.uint64(wide))
    else:
        for i in range(count):
            byte = load_uint8(column, load_uint64(rows, i))
            store_uint8(out, i, byte)
            store_uint64(positives, U3 * i + slot, np.uint64(byte))


@nb.njit(inline="always")
def take_positives(
    source: PositiveSource,
    place: int,
    count: int,
    positives: int,
    heads: int,
    relations: int,
    tails: int,
    scratch: int,
) -> None:
    """Write the positives at ``count`` places of the epoch, from ``place`` on.

    :param place: uint64; places behind the end are those of the beginning
    :param positives: address of int64, shape (count, 3), written
    :param heads: address, shape (count,), in the width of its column, written; likewise
        ``relations`` and ``tails``
    :param scratch: address of memory of :data:`TAKE_SCRATCH` bytes
    """
    rows = np.uint64(scratch)
    done = U0
    while done < count:
        start = (place + done) % source.num_positives
        here = min(_BLOCK, count - done, source.num_positives - start)
        if source.keys == NULL:
            for i in range(here):
                store_uint64(rows, i, start + i)
        else:
            permute(
                start,
                here,
                source.num_positives,
                np.uint32(source.num_left),
                np.uint32(source.num_right),
                source.keys,
                rows,
                rows + U8 * _BLOCK,
            )
        if source.rows != NULL:
            for i in range(here):
                store_uint64(rows, i, load_uint64(source.rows, load_uint64(rows, i)))
        entity, relation = source.entity_width, source.relation_width
        triples = positives + U8 * U3 * done
        _take_column(source.heads, entity, rows, here, heads + entity * done, triples, U0)
        _take_column(
            source.relations, relation, rows, here, relations + relation * done, triples, U1
        )
        _take_column(source.tails, entity, rows, here, tails + entity * done, triples, U2)
        done += here
