"""Epochs over as many streams as it takes, and the place of a stream within its epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negserve._protocol import messages
from negserve._protocol.messages import (
    check_equal,
    check_ids,
    check_member,
    check_range,
    invalid,
)
from negserve._protocol.sampler_answers import BatchReader, Columns, SamplerEcho
from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.epoch import EpochBatch, EpochConfig
from negserve.v1 import sampler_pb2 as pb

#: Small batches of a message are read together, up to this number of negatives.
_NEGATIVES_TOGETHER = 2**16
#: 1 / sqrt(1 + 1), for a triple whose pairs occur once, and rounding.
_LARGEST_WEIGHT = 0.7072
#: Most epochs that one stream may have.
MOST_EPOCHS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """Positions of the batches of one stream, for one rank and worker.

    ``docs/sampling.md``, *Order of an epoch*, is the definition.

    :ivar config: which positives
    :ivar num_positives: of the whole epoch
    :ivar start: position within the epoch at which the stream begins, 0 to ``num_positives``
    """

    config: EpochConfig
    num_positives: int
    start: int

    def __len__(self) -> int:
        """Count the batches; the same for every rank."""
        config, left = self.config, self.num_positives - self.start
        step = config.batch_size * config.world_size
        of_rank = left // step if config.tail == "drop" else -(-left // step)
        return max(0, -(-(of_rank - config.worker) // config.num_workers))

    def batch(self, index: int) -> tuple[int, int, int]:
        """Return a batch's first position within the epoch, its length, and its ``next_start``."""
        config = self.config
        step = config.batch_size * config.world_size
        begin = self.start + (config.worker + index * config.num_workers) * step
        next_start = begin + step
        if config.tail == "wrap" or next_start <= self.num_positives:
            first, length = begin + config.rank * config.batch_size, config.batch_size
        else:
            left = self.num_positives - begin
            first = begin + left * config.rank // config.world_size
            length = begin + left * (config.rank + 1) // config.world_size - first
        return first, length, min(next_start, self.num_positives)


class EpochProgress:
    """Progress within epochs that follow each other. Does no I/O.

    Open a stream with :meth:`request` and pass each message to :meth:`take`; after a failure, and
    when :attr:`is_done`, open another stream.

    :param start: position within the first epoch at which to begin
    :param echo: checks the configuration that servers confirm
    :ivar reads_on: whether epochs after the first one are wanted, too
    :ivar dataset: the dataset
    :ivar epoch: number of the epoch of the next batch
    :ivar num_positives: of a whole epoch; None until a server says it
    :ivar has_begun: whether this stream has returned a batch, or said that none is left
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig,
        epoch: int,
        start: int,
        echo: SamplerEcho,
        *,
        reads_on: bool = False,
    ) -> None:
        self.dataset = dataset
        self._sampler = sampler
        self._whole = config
        self._config = config
        last = config.num_workers - 1
        self._last_worker = config if config.worker == last else replace(config, worker=last)
        self.epoch = epoch
        self._start = start
        self._echo = echo
        self.reads_on = reads_on
        self._num_left = 0  # epochs of this stream, that of the next batch included
        self._reader = BatchReader(dataset, sampler)
        # Without a choice of relations they are all training triples.
        self.num_positives = dataset.num_triples if config.relations is None else None
        self._plan: EpochPlan | None = None
        self._num_taken = 0  # of the plan
        self.has_begun = False

    @property
    def number(self) -> int:
        """Number of the next stream: other workers and ranks, and epochs, have the next ones."""
        config = self._whole
        return config.rank * config.num_workers + config.worker + self.epoch

    def request(self, most_epochs: int = MOST_EPOCHS) -> pb.SampleEpochRequest:
        """Encode the request of another stream, which continues after the last batch.

        :param most_epochs: of the stream, 1 to ``MOST_EPOCHS``
        :raises InvalidRequestError: for an epoch or a start that is no number from 0 to 2^64 - 1
        """
        self._plan = None
        self.has_begun = False
        # Within an epoch this worker may be another one, see take.
        goes_on = self.reads_on and self._config is self._whole
        self._num_left = most_epochs if goes_on else 1
        return messages.encode_epoch_request(
            self.dataset.name,
            self.dataset.fingerprint,
            self._sampler,
            self._config,
            self.epoch,
            self._start,
            self._num_left,
        )

    @property
    def is_done(self) -> bool:
        """Whether this stream has no further epoch."""
        return self._num_left == 0

    def take(self, message: pb.SampleEpochResponse) -> tuple[list[EpochBatch], bool] | None:
        """Decode a message's batches, and tell whether the last of them is its epoch's last.

        Progress moves past them. None for a message without batches; an empty list if the first
        epoch has none left.

        :raises InvalidAnswerError: if the message does not continue the stream
        """
        if self._plan is None:
            self._plan = self.configure(message)
            self._num_taken = 0
            if len(self._plan) == 0:
                self.has_begun = True
                self._end_epoch(self._plan.num_positives)
                return [], True
            return None
        check_member("message", message, "batches")
        plan, encoded = self._plan, message.batches.batches
        check_range("batches", len(encoded), 1, len(plan) - self._num_taken)
        batches = list(self._read(plan, encoded))
        self._num_taken += len(batches)
        self.has_begun = True
        if is_last := self._num_taken == len(plan):
            self._end_epoch(plan.num_positives)
        else:
            self._start = batches[-1].next_start
            # Another stream begins at this batch's end: there, this worker comes last.
            self._config = self._last_worker
        return batches, is_last

    def _end_epoch(self, num_positives: int) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch += 1
        self._start = self._num_taken = 0
        self._config = self._whole
        self._plan = EpochPlan(self._config, num_positives, 0)
        # A server ends the stream before an epoch without a batch.
        self._num_left = self._num_left - 1 if len(self._plan) else 0

    def configure(self, message: pb.SampleEpochResponse) -> EpochPlan:
        """Check the first message of a stream, and compute the plan.

        :raises InvalidAnswerError: if it does not confirm the request
        """
        check_member("message", message, "configured")
        configured = message.configured
        self._echo.check("configured", configured.fingerprint, configured.sampler)
        if self.num_positives is None:
            most = self.dataset.num_triples
            check_range("configured.num_positives", configured.num_positives, 1, most)
        else:
            check_equal("configured.num_positives", configured.num_positives, self.num_positives)
        if configured.num_positives < self._start:
            raise invalid(
                "configured.num_positives", configured.num_positives, f"at least {self._start}"
            )
        plan = EpochPlan(self._config, configured.num_positives, self._start)
        check_equal("configured.num_batches", configured.num_batches, len(plan))
        self.num_positives = configured.num_positives
        return plan

    def _read(self, plan: EpochPlan, encoded: Sequence[pb.EpochBatch]) -> Iterator[EpochBatch]:
        """Decode the batches of a message."""
        first = self._num_taken
        places = [plan.batch(index) for index in range(first, first + len(encoded))]
        for batch, (_, _, next_start) in zip(encoded, places, strict=True):
            if batch.next_start != next_start:
                check_equal("batches.next_start", batch.next_start, next_start)
        lengths = [length for _, length, _ in places]
        columns = Columns.join("batches.positives", [batch.positives for batch in encoded], lengths)
        self._check_positives(columns)
        weights = self._read_weights(encoded, lengths)
        positives = np.empty((len(columns.heads), 3), dtype=np.int64)
        for column, ids in enumerate(columns):
            positives[:, column] = ids
        rows = [slice(*ends) for ends in pairwise(accumulate(lengths, initial=0))]
        zero = self.epoch * plan.num_positives
        num_negatives = self._config.batch_size * self._sampler.num_negs_per_pos
        together = max(1, _NEGATIVES_TOGETHER // num_negatives)
        begins = range(0, len(encoded), together)
        for begin in begins:
            group = range(begin, min(begin + together, len(encoded)))
            # Some values of each message are compared with the positives.
            is_compared = begin == begins[first % len(begins)]
            of_group = slice(rows[group[0]].start, rows[group[-1]].stop)
            negatives = self._reader.read(
                "batches.negatives",
                [encoded[index].negatives for index in group],
                [(zero + places[index][0], lengths[index]) for index in group],
                Columns(*(ids[of_group] for ids in columns)) if is_compared else None,
            )
            for index, drawn in zip(group, negatives, strict=True):
                yield EpochBatch(
                    epoch=self.epoch,
                    next_start=places[index][2],
                    positives=positives[rows[index]],
                    negatives=drawn,
                    weights=None if weights is None else weights[rows[index]],
                )

    def _read_weights(
        self, encoded: Sequence[pb.EpochBatch], lengths: Sequence[int]
    ) -> NDArray[np.float32] | None:
        is_expected = self._config.weights
        pieces = [batch.weights for batch in encoded]
        for data, length in zip(pieces, lengths, strict=True):
            if len(data) != (4 * length if is_expected else 0):
                numbers = length if is_expected else 0
                raise invalid("batches.weights, bytes", len(data), f"{numbers} numbers")
        if not is_expected:
            return None
        weights = np.frombuffer(b"".join(pieces), dtype="<f4")
        if len(weights):
            check_range("batches.weights", float(weights.min()), 2**-33, _LARGEST_WEIGHT)
            check_range("batches.weights", float(weights.max()), 2**-33, _LARGEST_WEIGHT)
        return weights

    def _check_positives(self, columns: Columns) -> None:
        dataset = self.dataset
        check_ids("batches.positives.heads", columns.heads, dataset.num_entities)
        check_ids("batches.positives.relations", columns.relations, dataset.num_relations)
        check_ids("batches.positives.tails", columns.tails, dataset.num_entities)
        relations = self._config.relation_set
        if relations is not None:
            is_other = ~np.isin(columns.relations, relations.ids)
            if is_other.any():
                other = int(columns.relations[is_other][0])
                raise invalid("batches.positives.relations", other, f"one of {tuple(relations)}")


class Place(NamedTuple):
    """The place of a stream between two batches.

    :ivar epoch: of the next batch
    :ivar start: position within the epoch at which the next batch begins
    :ivar digest: see :attr:`EpochCursor.digest`
    """

    epoch: int
    start: int
    digest: str | None


class EpochState:
    """Configuration and place of a stream of epochs.

    Parameters as of :class:`negserve.EpochStream`.

    :ivar sampler: which negatives
    :ivar config: which positives
    :ivar prefetch: batches read ahead, at least 1; those of a message are read together
    """

    def __init__(
        self,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        if prefetch < 1:
            raise InvalidRequestError(f"prefetch={prefetch}; give at least 1 batch")
        self.sampler = sampler
        self.config = config or EpochConfig()
        self.prefetch = prefetch
        # One object, so that an interrupt leaves all of it before a batch, or all of it after.
        self._place = Place(0, 0, "" if digest else None)

    def _after(self, batches: Sequence[EpochBatch], *, is_last: bool) -> Iterator[Place]:
        """Yield the places after each of the next batches.

        The caller moves there right before it yields the batch, so that a state that is kept
        afterwards includes it.

        :param is_last: whether the last batch is its epoch's last
        """
        epoch, _, digest = self._place
        for count, batch in enumerate(batches, start=1):
            if digest is not None:
                digest = chained_digest(digest, batch)
            if is_last and count == len(batches):
                yield Place(epoch + 1, 0, digest)
            else:
                yield Place(epoch, batch.next_start, digest)

    def _end_empty(self) -> None:
        """Move past an epoch that has no batch left."""
        self._place = Place(self._place.epoch + 1, 0, self._place.digest)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._place.epoch

    @property
    def digest(self) -> str | None:
        """SHA-256 of all batches so far, each hashed with the digest before it.

        64 hexadecimal digits, empty before the first batch; None if it is not kept. Equal for two
        runs with equal batches, also if one of them was interrupted.
        """
        return self._place.digest

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that was taken: ``epoch`` and ``start``."""
        epoch, start, digest = self._place
        state: dict[str, Any] = {"epoch": epoch, "start": start}
        if digest is not None:
            state["digest"] = digest
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of :meth:`state_dict`; an iteration under way does not change.

        :raises InvalidRequestError: if the state is malformed
        """
        digest = None if self._place.digest is None else str(state.get("digest", ""))
        self._place = Place(*epoch_and_start(state), digest)


def epoch_and_start(state: Mapping[str, Any]) -> tuple[int, int]:
    """Read the two integers of a state.

    :raises InvalidRequestError: if the state is malformed
    """
    try:
        epoch, start = int(state["epoch"]), int(state["start"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{state!r} is not the state of a stream; give a mapping with epoch and start"
        ) from error
    if epoch < 0 or start < 0:
        raise InvalidRequestError(f"epoch={epoch}, start={start}; neither may be negative")
    return epoch, start


def chained_digest(before: str, batch: EpochBatch) -> str:
    """Hash a batch together with the digest of the batches before it.

    :param before: 64 hexadecimal digits, or an empty string
    """
    negatives = batch.negatives
    sha = hashlib.sha256(before.encode("ascii"))
    sha.update(batch.positives.astype("<i8").tobytes())
    for array in (negatives.rows(), negatives.head_counts, negatives.relation_counts):
        sha.update(array.astype("<u4").tobytes())
    if negatives.mask is not None:
        sha.update(np.packbits(negatives.mask, bitorder="little").tobytes())
    for floats in (negatives.log_q, batch.weights):
        if floats is not None:
            sha.update(floats.astype("<f4").tobytes())
    return sha.hexdigest()
