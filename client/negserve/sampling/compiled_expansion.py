"""Expansion of compact batches by compiled code, where numba is installed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from negserve.types.corrupted_batch import CorruptedBatch

#: Held while numba is imported, and while it compiles. A process that forks meanwhile would have
#: numba's locks, and those of Python's imports, held for ever in the new one: it waits.
_lock = threading.RLock()
#: Dtypes of arguments that code is there for.
_ready: set[tuple[Any, ...]] = set()


def expanded_triples(
    batch: CorruptedBatch, positives: ArrayLike, out: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Rebuild whole triples as :meth:`negserve.CorruptedBatch.triples` does, but faster.

    :param out: for the triples, shape (n, k, 3), in one piece; None for a new array
    """
    kernel = _compiled(_write_triples)
    if kernel is None:
        triples = batch.triples(positives)
        if out is None:
            return triples
        out[:] = triples
        return out
    rows = batch.check(positives)
    triples = np.empty((len(rows), batch.replaced.shape[1], 3), np.int64) if out is None else out
    _run(kernel, batch, rows, triples)
    return triples


def expanded_columns(batch: CorruptedBatch, positives: ArrayLike) -> NDArray[np.int64]:
    """Rebuild columns as :meth:`negserve.CorruptedBatch.columns` does, but faster."""
    kernel = _compiled(_write_columns)
    if kernel is None:
        return batch.columns(positives)
    rows = batch.check(positives)
    columns = np.empty((3, len(rows), batch.replaced.shape[1]), dtype=np.int64)
    _run(kernel, batch, rows, columns)
    return columns


@cache
def _compiled(function: Callable[..., None]) -> Any:
    """Return a kernel, compiled when it first meets the dtypes of its arguments; else None.

    None without numba, and where it can't keep what it compiles (``NUMBA_CACHE_DIR`` names a
    folder): each worker of a loader would compile for seconds.
    """
    with _lock:
        try:
            import numba
        except ImportError:
            return None
        if numba.config.DISABLE_JIT:
            return None
        try:
            return numba.njit(cache=True, nogil=True)(function)
        except RuntimeError:
            return None


def _run(
    kernel: Any, batch: CorruptedBatch, positives: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    arguments = (
        _read_only(batch.replaced),
        batch.position % batch.chunk_size,
        batch.chunk_size,
        _read_only(batch.head_counts, np.uint32),
        _read_only(batch.relation_counts, np.uint32),
        _read_only(positives),
        out,
    )
    kind = kernel, batch.replaced.dtype.char, positives.dtype.char
    if kind in _ready:
        kernel(*arguments)
        return
    with _lock:
        kernel(*arguments)
        _ready.add(kind)


def _read_only(array: NDArray[Any], dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return an array in one piece that can't be written: numba compiles anew for other kinds."""
    same = np.ascontiguousarray(array, dtype=dtype).view()
    same.flags.writeable = False
    return same


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


# Indices are unsigned: numba compiles no SIMD code for signed ones. Counts are cut at k, as memory
# beyond the row would be written otherwise.


def _write_triples(
    values: Any,
    first: int,
    chunk_size: int,
    head_counts: Any,
    relation_counts: Any,
    positives: Any,
    triples: Any,
) -> None:
    zero, k = np.uint64(0), np.uint64(values.shape[1])
    at, left = 0, chunk_size - first
    for i in range(len(positives)):
        if left == 0:
            at, left = at + 1, chunk_size
        left -= 1
        row, into = values[at], triples[i]
        head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
        head_end = min(np.uint64(head_counts[i]), k)
        relation_end = min(head_end + np.uint64(relation_counts[i]), k)
        for j in range(zero, head_end):
            into[j, 0], into[j, 1], into[j, 2] = row[j], relation, tail
        for j in range(head_end, relation_end):
            into[j, 0], into[j, 1], into[j, 2] = head, row[j], tail
        for j in range(relation_end, k):
            into[j, 0], into[j, 1], into[j, 2] = head, relation, row[j]


def _write_columns(
    values: Any,
    first: int,
    chunk_size: int,
    head_counts: Any,
    relation_counts: Any,
    positives: Any,
    columns: Any,
) -> None:
    zero, k = np.uint64(0), np.uint64(values.shape[1])
    at, left = 0, chunk_size - first
    for i in range(len(positives)):
        if left == 0:
            at, left = at + 1, chunk_size
        left -= 1
        row, heads, relations, tails = values[at], columns[0, i], columns[1, i], columns[2, i]
        head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
        head_end = np.uint64(head_counts[i])
        relation_end = head_end + np.uint64(relation_counts[i])
        for j in range(zero, k):
            value = np.int64(row[j])
            heads[j] = value if j < head_end else head
            relations[j] = value if head_end <= j < relation_end else relation
            tails[j] = tail if j < relation_end else value
