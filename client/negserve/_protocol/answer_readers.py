"""Answers that come in several messages, over as many streams as it takes."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve._protocol.descriptions import check_dataset
from negserve._protocol.messages import check_equal, check_range, invalid
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb

#: Probabilities are rounded down to multiples of 2^-32; the quotient below is itself rounded.
_PROBABILITY_UNIT = 2**-32
_ROUNDING = 2**-50
_STATISTICS = ("tails_per_head", "heads_per_tail", "head_probability")
_Kind = pb.GetVocabularyResponse

_Result_co = TypeVar("_Result_co", covariant=True)


class AnswerReader(Protocol[_Result_co]):
    """Decodes one answer from a stream of messages. Does no I/O.

    :ivar request: the request of each stream; each stream has the answer from its beginning
    """

    request: Any

    def restart(self) -> None:
        """Forget all messages, for another stream."""

    def take(self, message: Any) -> bool:
        """Take a message; tell whether more of the answer is known than from any stream before.

        :raises InvalidAnswerError: if it does not continue the message before
        """

    def end(self) -> None:
        """Check that the answer is complete, at the end of a stream.

        :raises InvalidAnswerError: if something is missing
        """

    def result(self) -> _Result_co:
        """Return the answer, after :meth:`end`."""


class DatasetListReader:
    """Reads the names of a server's datasets."""

    def __init__(self) -> None:
        self.request = pb.ListDatasetsRequest()
        self._most = 0
        self.restart()

    def restart(self) -> None:
        """Forget all messages, for another stream."""
        self._names: dict[str, None] = {}

    def take(self, message: pb.ListDatasetsResponse) -> bool:
        """Take a message; tell whether more is known than from any stream before.

        :raises InvalidAnswerError: naming the field
        """
        for dataset in message.datasets:
            check_dataset("datasets", dataset)
            if dataset.name in self._names:
                raise invalid("datasets.name", repr(dataset.name), "another name than those before")
            self._names[dataset.name] = None
        before, self._most = self._most, max(self._most, len(self._names))
        return self._most > before

    def end(self) -> None:
        """Accept any number of names."""

    def result(self) -> list[str]:
        """Return the names in the server's order."""
        return list(self._names)


class VocabularyReader:
    """Reads the labels of a dataset, by id."""

    def __init__(self, dataset: Dataset) -> None:
        self.request = pb.GetVocabularyRequest(
            dataset=dataset.name, expected_fingerprint=dataset.fingerprint
        )
        self._expected = (
            {
                _Kind.KIND_ENTITY: dataset.num_entities,
                _Kind.KIND_RELATION: dataset.num_relations,
            }
            if dataset.has_vocabulary
            else dict.fromkeys((_Kind.KIND_ENTITY, _Kind.KIND_RELATION), 0)
        )
        self._most = 0
        self.restart()

    def restart(self) -> None:
        """Forget all messages, for another stream."""
        self._ids: dict[int, dict[str, int]] = {kind: {} for kind in self._expected}

    def take(self, message: pb.GetVocabularyResponse) -> bool:
        """Take a message; tell whether more labels are known than from any stream before.

        Skips labels of a kind that this client does not know, from a newer server.

        :raises InvalidAnswerError: if it does not continue the message before
        """
        if not message.labels:
            raise invalid("labels, number", 0, "at least 1")
        ids, expected = self._ids.get(message.kind), self._expected.get(message.kind)
        if ids is None or expected is None:
            if message.kind == _Kind.KIND_UNSPECIFIED:
                raise invalid("kind", message.kind, "KIND_ENTITY or KIND_RELATION")
            return False
        check_equal("first_id", message.first_id, len(ids))
        check_range("labels, number", len(ids) + len(message.labels), 0, expected)
        for label in message.labels:
            if label in ids:
                raise invalid("labels", repr(label), "a label without an id before")
            ids[label] = len(ids)
        before, self._most = self._most, max(self._most, sum(map(len, self._ids.values())))
        return self._most > before

    def end(self) -> None:
        """Check that the answer is complete.

        :raises InvalidAnswerError: if labels are missing
        """
        for kind, expected in self._expected.items():
            check_equal(f"labels of {_Kind.Kind.Name(kind)}", len(self._ids[kind]), expected)

    def result(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the ids of all entity labels and of all relation labels."""
        return self._ids[_Kind.KIND_ENTITY], self._ids[_Kind.KIND_RELATION]


class RelationStatisticsReader:
    """Reads the statistics of a dataset's relations."""

    def __init__(self, dataset: Dataset) -> None:
        self.request = pb.GetRelationStatisticsRequest(
            dataset=dataset.name, expected_fingerprint=dataset.fingerprint
        )
        self._num_relations = dataset.num_relations
        self._most = 0
        self.restart()

    def restart(self) -> None:
        """Forget all messages, for another stream."""
        self._pieces: list[NDArray[np.float64]] = []
        self._count = 0

    def take(self, message: pb.GetRelationStatisticsResponse) -> bool:
        """Take a message; tell whether more is known than from any stream before.

        :raises InvalidAnswerError: naming the field
        """
        check_equal("first_id", message.first_id, self._count)
        length = len(message.tails_per_head)
        check_range("tails_per_head, numbers", length, 1, self._num_relations - self._count)
        for field in _STATISTICS:
            check_equal(f"{field}, numbers", len(getattr(message, field)), length)
        self._pieces.append(np.array([getattr(message, field) for field in _STATISTICS]))
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
        for field, column, right in zip(_STATISTICS, piece, is_right, strict=True):
            if not right.all():
                wrong = int(right.argmin())
                raise invalid(
                    f"{field}[{self._count + wrong}]",
                    column[wrong],
                    "tph, hpt or tph / (tph + hpt)",
                )

    def end(self) -> None:
        """Check that the answer is complete.

        :raises InvalidAnswerError: if relations are missing
        """
        check_equal("relations", self._count, self._num_relations)

    def result(self) -> RelationStatistics:
        """Return the statistics."""
        return RelationStatistics(*np.concatenate(self._pieces, axis=1))
