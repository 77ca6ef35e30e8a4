"""The compact form of negatives: what was replaced, not whole triples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.types.triples import as_triples

#: So many negatives of a batch, and of a positive, are chosen by bits.
_MANY, _MANY_EACH = 2**14, 8


def num_rows(position: int, num_positives: int, chunk_size: int) -> int:
    """Count the chunks, each with a row of values, that hold consecutive positives."""
    if num_positives == 0:
        return 0
    return (position + num_positives - 1) // chunk_size - position // chunk_size + 1


@dataclass(frozen=True, slots=True)
class CorruptedBatch:
    """Negatives of n positives, k each.

    The k negatives of a positive are grouped by slot: first ``head_counts[i]`` with the head
    replaced, then ``relation_counts[i]`` with the relation replaced, then the tails.

    With ``chunk_size`` c above 1, the positives at positions qc to qc + c - 1 share a row of
    values; counts and mask are each positive's own.

    :ivar position: position of the first positive
    :ivar replaced: new values, shape (rows, k), uint8, uint16 or uint32; one row a positive, or
        one a chunk: the row of positive i is
        ``(position + i) // chunk_size - position // chunk_size``. :meth:`rows` gives one each
    :ivar head_counts: shape (n,), an unsigned dtype
    :ivar relation_counts: shape (n,), an unsigned dtype
    :ivar mask: bool, shape (n, k), True where valid; None if no negative can be invalid
    :ivar num_saturated: positives with fewer legal values than needed; what is missing is drawn
        without filter and candidates, and masked if there is a mask
    :ivar chunk_size: how many consecutive positions share a row
    :ivar log_q: natural logarithm of the probability of each negative, float32, shape (n, k);
        None if the configuration does not ask for it
    """

    position: int
    replaced: NDArray[np.unsignedinteger]
    head_counts: NDArray[np.unsignedinteger]
    relation_counts: NDArray[np.unsignedinteger]
    mask: NDArray[np.bool_] | None
    num_saturated: int
    chunk_size: int = 1
    log_q: NDArray[np.float32] | None = None

    @property
    def num_positives(self) -> int:
        """How many positives there are, n."""
        return len(self.head_counts)

    def row_of_positive(self) -> NDArray[np.int64]:
        """Give the row of ``replaced`` of each positive, shape (n,)."""
        first = self.position % self.chunk_size
        return (first + np.arange(self.num_positives)) // self.chunk_size

    def rows(self) -> NDArray[np.unsignedinteger]:
        """Give the new values of each positive, whether shared or not, shape (n, k)."""
        return self.replaced if self.chunk_size == 1 else self.replaced[self.row_of_positive()]

    def slots(self) -> NDArray[np.uint8]:
        """Give the replaced column of each negative, 0 head, 1 relation, 2 tail; shape (n, k)."""
        j = np.arange(self.replaced.shape[1])
        head_end = self.head_counts.astype(np.int64)[:, None]
        relation_end = head_end + self.relation_counts.astype(np.int64)[:, None]
        return (j >= head_end).astype(np.uint8) + (j >= relation_end).astype(np.uint8)

    def check(self, positives: ArrayLike) -> NDArray[np.int64]:
        """Check the positives, and the lengths of the batch's arrays.

        :param positives: the positives that were corrupted, integer ids, shape (n, 3)
        :return: int64, C-contiguous, shape (n, 3)
        :raises InvalidRequestError: for another shape or dtype, and for a batch whose arrays have
            other lengths
        """
        rows, n = as_triples(positives), len(self.head_counts)
        needed = num_rows(self.position, n, self.chunk_size) if self.chunk_size > 1 else n
        for name, array, length in (
            ("positives", rows, n),
            ("relation_counts", self.relation_counts, n),
            ("replaced", self.replaced, needed),
        ):
            if len(array) != length:
                raise InvalidRequestError(
                    f"{name} have {len(array)} rows; give {length}, for the {n} positives that "
                    f"were corrupted",
                    reason="SHAPE_MISMATCH",
                    metadata={"value": str(len(array)), "expected": str(length)},
                )
        return rows

    def triples(self, positives: ArrayLike) -> NDArray[np.int64]:
        """Rebuild whole triples.

        :param positives: the positives that were corrupted, integer ids, shape (n, 3)
        :return: shape (n, k, 3)
        :raises InvalidRequestError: as :meth:`check`
        """
        rows = self.check(positives)
        triples = np.empty((len(rows), self.replaced.shape[1], 3), dtype=np.int64)
        self._rebuild(rows, triples.transpose(2, 0, 1))
        return triples

    def columns(self, positives: ArrayLike) -> NDArray[np.int64]:
        """Rebuild heads, relations and tails apart.

        :param positives: the positives that were corrupted, integer ids, shape (n, 3)
        :return: heads, relations and tails, shape (3, n, k)
        :raises InvalidRequestError: as :meth:`check`
        """
        rows = self.check(positives)
        columns = np.empty((3, len(rows), self.replaced.shape[1]), dtype=np.int64)
        self._rebuild(rows, columns)
        return columns

    def _rebuild(self, positives: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Write heads, relations and tails, shape (3, n, k), with any strides."""
        values, head_end = self.rows(), self.head_counts
        with_relation = bool(self.relation_counts.any())
        tail_begin = head_end.astype(np.int64) + self.relation_counts if with_relation else head_end
        are_many = values.size >= _MANY and values.shape[1] >= _MANY_EACH
        rebuild = _select_words if are_many else _select_values
        rebuild(columns, values, positives, head_end, tail_begin, with_relation)


def _select_values(
    columns: NDArray[np.int64],
    values: NDArray[np.unsignedinteger],
    positives: NDArray[np.int64],
    head_end: NDArray[np.integer],
    tail_begin: NDArray[np.integer],
    with_relation: bool,
) -> None:
    """Write the positives, and over them the values where they belong."""
    for column in range(3):
        columns[column] = positives[:, column, None]
    j = np.arange(values.shape[1])
    is_head = j < head_end[:, None]
    is_before_tail = j < tail_begin[:, None] if with_relation else is_head
    np.copyto(columns[0], values, where=is_head)
    np.copyto(columns[2], values, where=~is_before_tail)
    if with_relation:
        np.copyto(columns[1], values, where=is_before_tail & ~is_head)


def _select_words(
    columns: NDArray[np.int64],
    values: NDArray[np.unsignedinteger],
    positives: NDArray[np.int64],
    head_end: NDArray[np.integer],
    tail_begin: NDArray[np.integer],
    with_relation: bool,
) -> None:
    """Choose by bits in the narrowest width, and widen what is chosen.

    Conditional writes of numpy take each value apart, and take twice as long with many negatives.
    """
    largest = int(positives.view(np.uint64).max(initial=0))  # negative ones are large, too
    dtype = np.promote_types(values.dtype, np.min_scalar_type(largest))
    values, originals = values.astype(dtype, copy=False), positives.astype(dtype)

    def write(slot: int, is_original: NDArray[np.unsignedinteger]) -> None:
        chosen = values ^ originals[:, slot, None]
        chosen &= is_original
        chosen ^= values
        np.copyto(columns[slot], chosen, casting="unsafe")

    k = values.shape[1]
    before_tail = _leading(tail_begin, k, dtype)
    after_head = ~(_leading(head_end, k, dtype) if with_relation else before_tail)
    write(0, after_head)
    write(2, before_tail)
    if with_relation:
        write(1, ~(after_head & before_tail))
    else:
        columns[1] = positives[:, 1, None]


def _leading(
    counts: NDArray[np.integer], k: int, dtype: np.dtype[Any]
) -> NDArray[np.unsignedinteger]:
    """Set all bits of the first ``counts[i]`` words of each row, shape (n, k)."""
    line = np.zeros(2 * k, dtype=dtype)
    line[:k] = np.iinfo(dtype).max
    width = line.itemsize
    windows: NDArray[np.unsignedinteger] = np.ndarray(
        (k + 1, k), dtype, line, k * width, (-width, width)
    )
    if k <= len(counts):  # it copies all windows, and then rows at the speed of memory
        return windows.take(counts, axis=0, mode="clip")
    # Counts that are all 0 have the narrowest dtype, which may not hold k.
    rows: NDArray[np.unsignedinteger] = windows[np.minimum(counts.astype(np.intp), k)]
    return rows


def join_batches(batches: Sequence[CorruptedBatch]) -> CorruptedBatch:
    """Join the batches of consecutive positives into the batch that one call would draw.

    :param batches: of one sampler, at least one
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    chunk = first.chunk_size
    rows: list[NDArray[np.unsignedinteger]] = []
    for batch in batches:
        # A chunk that lies in two batches has its row in both.
        is_repeated = batch.position % chunk > 0 and batch.position > first.position
        rows.append(batch.replaced[1:] if is_repeated else batch.replaced)
    masks = [batch.mask for batch in batches if batch.mask is not None]
    log_qs = [batch.log_q for batch in batches if batch.log_q is not None]
    return CorruptedBatch(
        position=first.position,
        replaced=np.concatenate(rows),
        head_counts=np.concatenate([batch.head_counts for batch in batches]),
        relation_counts=np.concatenate([batch.relation_counts for batch in batches]),
        mask=np.concatenate(masks) if masks else None,
        num_saturated=sum(batch.num_saturated for batch in batches),
        chunk_size=chunk,
        log_q=np.concatenate(log_qs) if log_qs else None,
    )


def divide_batch(batch: CorruptedBatch, lengths: Sequence[int]) -> list[CorruptedBatch]:
    """Divide a batch, whose mask is False in the saturated positives alone, among several calls.

    :param batch: with a row a positive, and a mask
    :param lengths: number of positives of each call
    """
    assert batch.mask is not None
    parts, begin = [], 0
    for n in lengths:
        of = slice(begin, begin + n)
        mask = batch.mask[of]
        is_whole = batch.num_saturated == 0
        parts.append(
            CorruptedBatch(
                position=batch.position + begin,
                replaced=batch.replaced[of],
                head_counts=batch.head_counts[of],
                relation_counts=batch.relation_counts[of],
                mask=mask,
                num_saturated=0 if is_whole else int(np.count_nonzero(~mask.all(axis=1))),
                log_q=None if batch.log_q is None else batch.log_q[of],
            )
        )
        begin += n
    return parts
