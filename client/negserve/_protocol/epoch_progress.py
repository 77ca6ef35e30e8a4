"""One epoch, read over as many streams as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from negserve._protocol import messages
from negserve._protocol.answers import check_equal, check_ids, check_member, check_range, invalid
from negserve._protocol.batch_reader import BatchReader, Columns
from negserve._protocol.epoch_plan import EpochPlan
from negserve._protocol.sampler_echo import SamplerEcho
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.epoch import EpochBatch, EpochConfig
from negserve.v1 import sampler_pb2 as pb

#: Small batches of a message are read together, as long as they have no more negatives.
_NEGATIVES_TOGETHER = 2**16
#: 1 / sqrt(1 + 1), of a triple that shares its pairs with no other, and rounding.
_LARGEST_WEIGHT = 0.7072


class EpochProgress:
    """What an epoch has still to give. Does no I/O.

    Whoever has a stream opens it with :meth:`request`, gives each message to :meth:`take`, and
    does so until :attr:`is_done`.

    :ivar dataset: what the epoch is of
    :param echo: what servers have to say that they draw
    :ivar num_positives: of the whole epoch; None before a server said so
    :ivar is_done: whether the last batch was given
    :ivar has_begun: whether the stream at hand gave a batch, or said that none is left
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig,
        epoch: int,
        start: int,
        echo: SamplerEcho,
    ) -> None:
        self.dataset = dataset
        self._sampler = sampler
        self._config = config
        self._epoch = epoch
        self._start = start
        self._echo = echo
        self._reader = BatchReader(dataset, sampler)
        # Without a choice of relations they are all training triples.
        self.num_positives = dataset.num_triples if config.relations is None else None
        self._plan: EpochPlan | None = None
        self._num_taken = 0  # of the plan
        self.is_done = False
        self.has_begun = False

    def request(self) -> pb.SampleEpochRequest:
        """Give what another stream is opened with: it goes on where the one before was.

        :raises InvalidRequestError: for an epoch or a start that is no number from 0 to 2^64 - 1
        """
        self._plan = None
        self.has_begun = False
        return messages.encode_epoch_request(
            self.dataset.name,
            self.dataset.fingerprint,
            self._sampler,
            self._config,
            self._epoch,
            self._start,
        )

    def take(self, message: pb.SampleEpochResponse) -> Iterator[tuple[EpochBatch | None, bool]]:
        """Iterate over a message's batches, with each whether it is the epoch's last.

        A batch counts as given when the next one is asked for. If the epoch has none left, the
        only item is (None, True).

        :raises InvalidAnswerError: if the message is not what is due
        """
        if self._plan is None:
            self._plan = self.configure(message)
            self._num_taken = 0
            if len(self._plan) == 0:
                self.has_begun = True
                yield None, True
                self.is_done = True
            return
        check_member("message", message, "batches")
        plan, encoded = self._plan, message.batches.batches
        check_range("batches", len(encoded), 1, len(plan) - self._num_taken)
        behind = replace(self._config, worker=self._config.num_workers - 1)
        for batch in self._read(plan, encoded):
            self._num_taken += 1
            yield batch, self._num_taken == len(plan)
            self.has_begun = True
            self._start = batch.next_start
            # From here on, the first batch is another worker's, and the last one this one's.
            self._config = behind
        self.is_done = self._num_taken == len(plan)

    def configure(self, message: pb.SampleEpochResponse) -> EpochPlan:
        """Take the first message of a stream.

        :raises InvalidAnswerError: if it is not what is due
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
        due = [plan.batch(index) for index in range(first, first + len(encoded))]
        for batch, (_, _, next_start) in zip(encoded, due, strict=True):
            if batch.next_start != next_start:
                check_equal("batches.next_start", batch.next_start, next_start)
        lengths = [length for _, length, _ in due]
        columns = Columns.join("batches.positives", [batch.positives for batch in encoded], lengths)
        self._check_positives(columns)
        weights = self._read_weights(encoded, lengths)
        positives = np.empty((len(columns.heads), 3), dtype=np.int64)
        for column, ids in enumerate(columns):
            positives[:, column] = ids
        rows = [slice(*ends) for ends in pairwise(accumulate(lengths, initial=0))]
        zero = self._epoch * plan.num_positives
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
                [(zero + due[index][0], lengths[index]) for index in group],
                Columns(*(ids[of_group] for ids in columns)) if is_compared else None,
            )
            for index, drawn in zip(group, negatives, strict=True):
                yield EpochBatch(
                    epoch=self._epoch,
                    next_start=due[index][2],
                    positives=positives[rows[index]],
                    negatives=drawn,
                    weights=None if weights is None else weights[rows[index]],
                )

    def _read_weights(
        self, encoded: Sequence[pb.EpochBatch], lengths: Sequence[int]
    ) -> NDArray[np.float32] | None:
        is_due = self._config.weights
        pieces = [batch.weights for batch in encoded]
        for data, length in zip(pieces, lengths, strict=True):
            if len(data) != (4 * length if is_due else 0):
                numbers = length if is_due else 0
                raise invalid("batches.weights, bytes", len(data), f"{numbers} numbers")
        if not is_due:
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
