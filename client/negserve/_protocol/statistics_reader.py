"""Statistics per relation, read over as many streams as it takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve._protocol.answers import check_equal, check_range, invalid
from negserve.types.dataset import Dataset
from negserve.types.relation_statistics import RelationStatistics
from negserve.v1 import sampler_pb2 as pb

#: Probabilities are rounded down to multiples of 2^-32; the quotient below is itself rounded.
_PROBABILITY_UNIT = 2**-32
_ROUNDING = 2**-50
_FIELDS = ("tails_per_head", "heads_per_tail", "head_probability")


class StatisticsReader:
    """The statistics that came over the stream at hand. Does no I/O."""

    def __init__(self, dataset: Dataset) -> None:
        self.request = pb.GetRelationStatisticsRequest(
            dataset=dataset.name, expected_fingerprint=dataset.fingerprint
        )
        self._num_relations = dataset.num_relations
        self._most = 0
        self.restart()

    def restart(self) -> None:
        """Forget what came: there is another stream."""
        self._pieces: list[NDArray[np.float64]] = []
        self._count = 0

    def take(self, message: pb.GetRelationStatisticsResponse) -> bool:
        """Take a piece; tell whether it goes further than any stream before.

        :raises InvalidAnswerError: naming the field
        """
        check_equal("first_id", message.first_id, self._count)
        length = len(message.tails_per_head)
        check_range("tails_per_head, numbers", length, 1, self._num_relations - self._count)
        for field in _FIELDS:
            check_equal(f"{field}, numbers", len(getattr(message, field)), length)
        self._pieces.append(np.array([getattr(message, field) for field in _FIELDS]))
        self._check(self._pieces[-1])
        self._count += length
        before, self._most = self._most, max(self._most, self._count)
        return self._most > before

    def _check(self, piece: NDArray[np.float64]) -> None:
        tph, hpt, probability = piece
        is_absent = np.isnan(tph)
        with np.errstate(all="ignore"):  # of numbers that are refused below
            expected = np.where(is_absent, 0.5, tph / (tph + hpt))
        is_right = (
            is_absent | (np.isfinite(tph) & (tph >= 1)),
            np.where(is_absent, np.isnan(hpt), np.isfinite(hpt) & (hpt >= 1)),
            (probability <= expected + _ROUNDING)
            & (probability > expected - _PROBABILITY_UNIT - _ROUNDING),
        )
        for field, column, right in zip(_FIELDS, piece, is_right, strict=True):
            if not right.all():
                wrong = int(right.argmin())
                raise invalid(
                    f"{field}[{self._count + wrong}]",
                    column[wrong],
                    "tph, hpt or tph / (tph + hpt)",
                )

    def end(self) -> None:
        """Take note that a stream is over.

        :raises InvalidAnswerError: if relations are missing
        """
        check_equal("relations", self._count, self._num_relations)

    def result(self) -> RelationStatistics:
        """Give the statistics, once a stream is over."""
        return RelationStatistics(*np.concatenate(self._pieces, axis=1))
