"""Corrupted batches of one sampler: what they must be, and decoding them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negserve._protocol.answers import (
    check_equal,
    check_flags,
    check_ids,
    check_range,
    invalid,
    join_ids,
)
from negserve.types.config import SLOTS, SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch, num_rows
from negserve.types.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb

#: Negatives of one reading whose value is compared with the positive's own. To compare all would
#: cost more than all other checks together. A server that answers the positives shows in the first
#: message, one that only does not leave the original out in so many messages as have about as many
#: compared negatives as there are ids.
_MOST_COMPARED = 512
#: Logarithms of probabilities are at most 0, but for the rounding of their sum.
_LARGEST_LOG_Q = 1e-6

Ids = NDArray[np.unsignedinteger]


class Columns(NamedTuple):
    """Positives as columns, each shape (n,) and an unsigned dtype."""

    heads: Ids
    relations: Ids
    tails: Ids

    @classmethod
    def join(cls, path: str, triples: Sequence[pb.Triples], lengths: Sequence[int]) -> Columns:
        """Decode positives that must be so many, one message behind the other; read-only.

        :raises InvalidAnswerError: naming the field
        """
        return cls(
            join_ids(f"{path}.heads", [each.heads for each in triples], lengths),
            join_ids(f"{path}.relations", [each.relations for each in triples], lengths),
            join_ids(f"{path}.tails", [each.tails for each in triples], lengths),
        )


class BatchReader:
    """Decodes corrupted batches, after comparing them with what was asked for.

    Several small ones are read at once, because what a check costs is the call. No memory is taken
    before the bytes that arrived are as many as they have to be.

    :param dataset: whose ids they have
    :param config: what was to be drawn
    """

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._config = config
        self._num_entities = dataset.num_entities
        self._num_relations = dataset.num_relations
        scheme = config.corruption_scheme
        self._with_head, self._with_relation, self._with_tail = (slot in scheme for slot in SLOTS)
        self._slots = [number for number, slot in enumerate(SLOTS) if slot in scheme]
        self._sizes = [self._num_relations] if self._with_relation else []
        if self._with_head or self._with_tail:
            self._sizes.append(self._num_entities)

    def read(
        self,
        path: str,
        messages: Sequence[pb.CorruptedBatch],
        due: Sequence[tuple[int, int]],
        positives: Columns | None,
    ) -> list[CorruptedBatch]:
        """Decode batches.

        :param path: what they are called in errors
        :param due: position of the first positive, and number of positives, of each
        :param positives: of all of them, one batch behind the other, with which some values are
            compared; None to leave that out
        :raises InvalidAnswerError: naming the field
        """
        config, k = self._config, self._config.num_negs_per_pos
        for message, (position, n) in zip(messages, due, strict=True):
            if message.position != position or message.num_positives != n:
                check_equal(f"{path}.position", message.position, position)
                check_equal(f"{path}.num_positives", message.num_positives, n)
            if message.num_saturated > n:
                check_range(f"{path}.num_saturated", message.num_saturated, 0, n)
        lengths = [n for _, n in due]
        rows = [num_rows(position, n, config.chunk_size) for position, n in due]
        replaced = join_ids(
            f"{path}.replaced", [message.replaced for message in messages], [k * r for r in rows]
        )
        heads = _join_counts(
            f"{path}.head_counts", [message.head_counts for message in messages], lengths
        )
        relations = _join_counts(
            f"{path}.relation_counts", [message.relation_counts for message in messages], lengths
        )
        self._check_counts(path, heads, relations, sum(lengths))
        mask = self._read_mask(path, messages, lengths)
        log_q = self._read_log_q(path, messages, lengths)
        values = replaced.reshape(-1, k)
        ends = _Ends(heads, relations)
        self._check_values(path, values, due, ends)
        if positives is not None:
            self._check_originals(path, values, due, ends, positives, mask)
        if replaced.dtype.itemsize == 8:
            values = values.astype(np.uint32)  # legal on the wire, and no id needs it
        zeros = (
            np.zeros(sum(lengths), dtype=np.uint8) if heads is None or relations is None else None
        )
        by_row, by_positive = _slices(rows), _slices(lengths)
        return [
            CorruptedBatch(
                position=message.position,
                replaced=values[of_rows],
                head_counts=(zeros if heads is None else heads)[of],  # type: ignore[index]
                relation_counts=(zeros if relations is None else relations)[of],  # type: ignore[index]
                mask=None if mask is None else mask[of],
                num_saturated=message.num_saturated,
                chunk_size=config.chunk_size,
                log_q=None if log_q is None else log_q[of],
            )
            for message, of_rows, of in zip(messages, by_row, by_positive, strict=True)
        ]

    def _check_counts(
        self, path: str, heads: Ids | None, relations: Ids | None, num_positives: int
    ) -> None:
        """Refuse counts that do not divide k among the slots of the scheme."""
        k = self._config.num_negs_per_pos
        for name, counts, is_in_scheme in (
            ("head_counts", heads, self._with_head),
            ("relation_counts", relations, self._with_relation),
        ):
            if counts is not None:
                most = k if is_in_scheme else 0
                largest = int(counts.max())
                if largest > most:
                    raise invalid(f"{path}.{name}", largest, f"at most {most}")
        if heads is not None and relations is not None:
            total = heads.astype(np.int64) + relations
        elif not self._with_tail:
            counts = heads if relations is None else relations
            total = np.zeros(num_positives, np.int64) if counts is None else counts  # type: ignore[assignment]
        else:
            return
        if num_positives == 0:
            return
        largest, smallest = int(total.max()), int(total.min())
        if largest > k:
            raise invalid(f"{path}.head_counts + relation_counts", largest, f"at most {k}")
        if not self._with_tail and smallest < k:
            raise invalid(f"{path}.head_counts + relation_counts", smallest, k)

    def _check_values(
        self, path: str, values: Ids, due: Sequence[tuple[int, int]], ends: _Ends
    ) -> None:
        """Refuse ids outside the id space of their slot."""
        check_ids(f"{path}.replaced", values, max(self._sizes))
        if len(self._sizes) == 1 or not values.size:
            return
        if self._config.chunk_size > 1:
            values = values[_row_of_positive(due, self._config.chunk_size)]
        number, k = values.shape
        slots = ends.slot_of(np.arange(number)[:, None], np.arange(k))
        is_relation = np.broadcast_to(slots == 1, values.shape)
        of_relations = self._num_relations < self._num_entities
        chosen = values[is_relation if of_relations else ~is_relation]
        check_ids(f"{path}.replaced", chosen, min(self._sizes))

    def _check_originals(
        self,
        path: str,
        values: Ids,
        due: Sequence[tuple[int, int]],
        ends: _Ends,
        positives: Columns,
        mask: NDArray[np.bool_] | None,
    ) -> None:
        """Refuse negatives that are the positive, in some of the rows; valid ones, with chunks."""
        n = len(positives.heads)
        step = max(1, n * self._config.num_negs_per_pos // _MOST_COMPARED)
        # Which rows follows from what was asked, and differs from one message to the next.
        some = slice(due[0][0] % min(step, max(n, 1)) if due else 0, None, step)
        if self._config.chunk_size > 1:
            values = values[_row_of_positive(due, self._config.chunk_size)[some]]
        else:
            values = values[some]
        for slot in self._slots:
            column = positives[slot]
            same = values == column[some, None]
            if not np.count_nonzero(same):
                continue
            row, j = np.nonzero(same)
            positive = some.start + row * step
            is_own = ends.slot_of(positive, j) == slot
            if mask is not None and self._config.chunk_size > 1:
                is_own &= mask[positive, j]
            if is_own.any():
                value = int(values[row[is_own][0], j[is_own][0]])
                raise invalid(
                    f"{path}.replaced", value, f"another {SLOTS[slot]} than the positive's"
                )

    def _read_mask(
        self, path: str, messages: Sequence[pb.CorruptedBatch], lengths: Sequence[int]
    ) -> NDArray[np.bool_] | None:
        k = self._config.num_negs_per_pos
        packed = [message.mask for message in messages]
        if not self._config.masked:
            for data in packed:
                check_equal(f"{path}.mask, bytes", len(data), 0)
            return None
        for data, n in zip(packed, lengths, strict=True):
            if data:
                check_flags(f"{path}.mask", data, n * k)
        mask = np.ones((sum(lengths), k), dtype=np.bool_)
        for data, n, of in zip(packed, lengths, _slices(lengths), strict=True):
            if data:
                flags = np.unpackbits(
                    np.frombuffer(data, dtype=np.uint8), count=n * k, bitorder="little"
                )
                mask[of] = flags.view(np.bool_).reshape(n, k)
        if self._config.filter_mode == "exact" and self._config.chunk_size == 1:
            # Nothing but what is missing is invalid.
            for message, of in zip(messages, _slices(lengths), strict=True):
                if message.mask or message.num_saturated:
                    num_invalid = int(np.count_nonzero(~mask[of].all(axis=1)))
                    check_equal(f"{path}.num_saturated", message.num_saturated, num_invalid)
        return mask

    def _read_log_q(
        self, path: str, messages: Sequence[pb.CorruptedBatch], lengths: Sequence[int]
    ) -> NDArray[np.float32] | None:
        k = self._config.num_negs_per_pos
        pieces = [message.log_q for message in messages]
        for data, n in zip(pieces, lengths, strict=True):
            if len(data) != (4 * n * k if self._config.log_q else 0):
                due = f"{n * k} numbers" if self._config.log_q else "none"
                raise invalid(f"{path}.log_q, bytes", len(data), due)
        if not self._config.log_q:
            return None
        log_q = np.frombuffer(b"".join(pieces), dtype="<f4").reshape(-1, k)
        if log_q.size:
            check_range(f"{path}.log_q", float(log_q.max()), -np.inf, _LARGEST_LOG_Q)
            if not np.isfinite(log_q.min()):
                raise invalid(f"{path}.log_q", log_q.min(), "finite")
        return log_q


class _Ends(NamedTuple):
    """Where the slots of each positive's negatives end."""

    heads: Ids | None
    relations: Ids | None

    def slot_of(self, positive: NDArray[Any], j: NDArray[Any]) -> NDArray[np.uint8]:
        """Give the slot of negatives: 0 head, 1 relation, 2 tail.

        :param positive: number of each one's positive
        :param j: its number among the positive's, of a shape that goes with that
        """
        head_end: Any = 0 if self.heads is None else self.heads[positive].astype(np.int64)
        relation_end = head_end
        if self.relations is not None:
            relation_end = head_end + self.relations[positive].astype(np.int64)
        slots: NDArray[np.uint8] = (j >= head_end).astype(np.uint8) + (j >= relation_end)
        return slots


def _join_counts(field: str, tensors: Sequence[pb.Ids], lengths: Sequence[int]) -> Ids | None:
    """Decode counts, of which empty data are zeros; None if all are."""
    present = [tensor for tensor in tensors if tensor.data]
    if not present:
        return None
    if len(present) == len(tensors):
        return join_ids(field, tensors, lengths)
    width = present[0].width
    filled = [
        tensor if tensor.data else pb.Ids(data=bytes(n * width), width=width)
        for tensor, n in zip(tensors, lengths, strict=True)
    ]
    return join_ids(field, filled, lengths)


def _slices(lengths: Iterable[int]) -> Iterator[slice]:
    return (slice(*ends) for ends in pairwise(accumulate(lengths, initial=0)))


def _row_of_positive(due: Sequence[tuple[int, int]], chunk_size: int) -> NDArray[np.int64]:
    """Give the row of each positive, counted over all batches."""
    pieces, first = [np.empty(0, dtype=np.int64)], 0
    for position, n in due:
        pieces.append(first + (position % chunk_size + np.arange(n)) // chunk_size)
        first += num_rows(position, n, chunk_size)
    return np.concatenate(pieces)
