"""Answers of one sampler: the configuration that servers confirm, and corrupted batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from numpy.typing import NDArray

from negserve._protocol.messages import (
    check_equal,
    check_flags,
    check_ids,
    check_member,
    check_range,
    encode_config,
    invalid,
    join_ids,
)
from negserve.types.config import SLOTS, SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch, num_rows
from negserve.types.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb

#: Negatives per call whose value is compared with the original. To compare all would cost more
#: than all other checks together. A server that returns the positives is noticed at the first
#: message; one that draws the original by chance, after about as many compared negatives as the
#: slot has ids.
_MOST_COMPARED = 512
#: Kind of the notice about ids that seem to be those of another graph.
UNKNOWN_POSITIVES = int(pb.Notice.KIND_UNKNOWN_POSITIVES)
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
        """Check and decode the positives of several messages, concatenated; read-only.

        :param lengths: the number of positives that each message must have

        :raises InvalidAnswerError: naming the field
        """
        return cls(
            join_ids(f"{path}.heads", [each.heads for each in triples], lengths),
            join_ids(f"{path}.relations", [each.relations for each in triples], lengths),
            join_ids(f"{path}.tails", [each.tails for each in triples], lengths),
        )


class BatchReader:
    """Checks corrupted batches against their request, and decodes them.

    Several small batches are read in one call, because the calls cost more than the checks. Memory
    is allocated only after the number of bytes that arrived is checked.

    :ivar k: negatives of a positive
    :ivar can_divide: whether the mask tells which positives are saturated, so that a batch of
        several calls can be divided into those of each
    :param dataset: the id space
    :param config: the configuration that the server draws by
    """

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._config = config
        self.k = config.num_negs_per_pos
        self.can_divide = config.masked and config.filter_mode == "exact" and config.chunk_size == 1
        self._num_entities = dataset.num_entities
        self._num_relations = dataset.num_relations
        self._is_masked = config.masked
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
        expected: Sequence[tuple[int, int]],
        positives: Columns | None,
    ) -> list[CorruptedBatch]:
        """Check and decode batches.

        :param path: name of the field in errors
        :param expected: position of the first positive, and number of positives, of each batch
        :param positives: of all batches, concatenated, to compare some values with; None to
            compare none
        :raises InvalidAnswerError: naming the field
        """
        config, k = self._config, self._config.num_negs_per_pos
        for message, (position, n) in zip(messages, expected, strict=True):
            if message.position != position or message.num_positives != n:
                check_equal(f"{path}.position", message.position, position)
                check_equal(f"{path}.num_positives", message.num_positives, n)
            if message.num_saturated > n:
                check_range(f"{path}.num_saturated", message.num_saturated, 0, n)
        lengths = [n for _, n in expected]
        rows = (
            lengths
            if config.chunk_size == 1
            else [num_rows(position, n, config.chunk_size) for position, n in expected]
        )
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
        counts = _Counts(heads, relations)
        self._check_values(path, values, expected, counts)
        if positives is not None:
            self._check_originals(path, values, expected, counts, positives, mask)
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
        """Check that counts divide k among the slots of the scheme."""
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
        self, path: str, values: Ids, expected: Sequence[tuple[int, int]], counts: _Counts
    ) -> None:
        """Check that ids are in the id space of their slot."""
        check_ids(f"{path}.replaced", values, max(self._sizes))
        if len(self._sizes) == 1 or not values.size:
            return
        if self._config.chunk_size > 1:
            values = values[_row_of_positive(expected, self._config.chunk_size)]
        number, k = values.shape
        slots = counts.slot_of(np.arange(number)[:, None], np.arange(k))
        is_relation = np.broadcast_to(slots == 1, values.shape)
        of_relations = self._num_relations < self._num_entities
        chosen = values[is_relation if of_relations else ~is_relation]
        check_ids(f"{path}.replaced", chosen, min(self._sizes))

    def _check_originals(
        self,
        path: str,
        values: Ids,
        expected: Sequence[tuple[int, int]],
        counts: _Counts,
        positives: Columns,
        mask: NDArray[np.bool_] | None,
    ) -> None:
        """Check in some rows that no negative, with chunks no valid one, is the positive."""
        n = len(positives.heads)
        step = max(1, n * self._config.num_negs_per_pos // _MOST_COMPARED)
        # The rows depend on the position, and so differ from one message to the next.
        some = slice(expected[0][0] % min(step, max(n, 1)) if expected else 0, None, step)
        if self._config.chunk_size > 1:
            values = values[_row_of_positive(expected, self._config.chunk_size)[some]]
        else:
            values = values[some]
        for slot in self._slots:
            column = positives[slot]
            same = values == column[some, None]
            if not np.count_nonzero(same):
                continue
            row, j = np.nonzero(same)
            positive = some.start + row * step
            is_own = counts.slot_of(positive, j) == slot
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
        if not self._is_masked:
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
                expected = f"{n * k} numbers" if self._config.log_q else "none"
                raise invalid(f"{path}.log_q, bytes", len(data), expected)
        if not self._config.log_q:
            return None
        log_q = np.frombuffer(b"".join(pieces), dtype="<f4").reshape(-1, k)
        if log_q.size:
            check_range(f"{path}.log_q", float(log_q.max()), -np.inf, _LARGEST_LOG_Q)
            if not np.isfinite(log_q.min()):
                raise invalid(f"{path}.log_q", log_q.min(), "finite")
        return log_q


class Notice(NamedTuple):
    """What a server notices about a stream: its kind as a number, and a text for people."""

    kind: int
    text: str


def read_notices(answer: pb.SampleResponse) -> list[Notice]:
    """Decode the notices of an answer."""
    return [Notice(notice.kind, notice.text) for notice in answer.notices]


class SamplerEcho:
    """Checks the configuration that servers confirm; it is the same on all streams and replicas.

    Algorithm version 0 asks for the newest: the first server names it, and all later streams must
    confirm that version.
    """

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._fingerprint = dataset.fingerprint
        self._config = config
        self._expected: pb.SamplerConfig | None = None

    def confirm(self, answer: pb.SampleResponse) -> None:
        """Check the first answer of a ``Sample`` stream.

        :raises InvalidAnswerError: naming the field
        """
        check_member("message", answer, "configured")
        configured = answer.configured
        self.check("configured", configured.fingerprint, configured.sampler)

    def check(self, path: str, fingerprint: str, echo: pb.SamplerConfig) -> None:
        """Check a fingerprint and a configuration.

        :param path: name of the message in errors
        :raises InvalidAnswerError: naming the field
        """
        check_equal(f"{path}.fingerprint", fingerprint, self._fingerprint)
        expected = self._expected or _normalized(self._config)
        if expected.algorithm_version == 0:
            if echo.algorithm_version == 0:
                raise invalid(f"{path}.sampler.algorithm_version", 0, "the version in use")
            expected.algorithm_version = echo.algorithm_version
        self._check_fields(path, echo, expected)
        self._expected = expected

    def _check_fields(self, path: str, echo: pb.SamplerConfig, expected: pb.SamplerConfig) -> None:
        if echo == expected:
            return
        for field in expected.DESCRIPTOR.fields:
            check_equal(
                f"{path}.sampler.{field.name}", _values(echo, field), _values(expected, field)
            )


def _values(message: Any, field: FieldDescriptor) -> object:
    """Return the value of a field, None if it is not set; unknown fields of parts are left out."""
    if field.name == "mixture":
        return [(part.kind, part.shares) for part in message.mixture]
    if field.has_presence:
        return getattr(message, field.name) if message.HasField(field.name) else None
    value = getattr(message, field.name)
    return list(value) if field.is_repeated else value


def _normalized(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a configuration as servers confirm it."""
    message = encode_config(config)
    message.ClearField("candidates")
    if not config.uses_alpha:
        message.ClearField("alpha")
    return message


class _Counts(NamedTuple):
    """Numbers of each positive's negatives by slot; None for zeros."""

    heads: Ids | None
    relations: Ids | None

    def slot_of(self, positive: NDArray[Any], j: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the slot of negatives: 0 head, 1 relation, 2 tail.

        :param positive: row of each negative's positive
        :param j: its index among the negatives of that positive, in a shape that broadcasts
        """
        head_end: Any = 0 if self.heads is None else self.heads[positive].astype(np.int64)
        relation_end = head_end
        if self.relations is not None:
            relation_end = head_end + self.relations[positive].astype(np.int64)
        slots: NDArray[np.uint8] = (j >= head_end).astype(np.uint8) + (j >= relation_end)
        return slots


def _join_counts(field: str, tensors: Sequence[pb.Ids], lengths: Sequence[int]) -> Ids | None:
    """Check and decode counts. Empty data stand for zeros; None if all are zeros."""
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


def _row_of_positive(expected: Sequence[tuple[int, int]], chunk_size: int) -> NDArray[np.int64]:
    """Return the row of each positive, counted over all batches."""
    pieces, first = [np.empty(0, dtype=np.int64)], 0
    for position, n in expected:
        pieces.append(first + (position % chunk_size + np.arange(n)) // chunk_size)
        first += num_rows(position, n, chunk_size)
    return np.concatenate(pieces)
