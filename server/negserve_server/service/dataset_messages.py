"""Messages about datasets: their descriptions, statistics and labels."""

from __future__ import annotations

from collections.abc import Iterator

from negserve.types.config import SPLITS
from negserve.v1 import sampler_pb2 as pb
from negserve_server.graph import TriplesFactory
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.sampling import RelationCounts
from negserve_server.service.messages import SPLIT_VALUES

_LABEL_BYTES_PER_MESSAGE = 256 * 1024
_LABELS_PER_MESSAGE = 8192
#: 24 bytes each.
RELATIONS_PER_MESSAGE = 8192
#: Some 500 bytes each.
DATASETS_PER_MESSAGE = 32


def encode_dataset(name: str, factory: TriplesFactory) -> pb.Dataset:
    """Encode the description of a dataset."""
    return pb.Dataset(
        name=name,
        fingerprint=factory.fingerprint,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        splits=[
            pb.SplitSummary(
                split=SPLIT_VALUES[split],  # type: ignore[arg-type]
                num_triples=len(factory.columns[split]),
                num_unseen=factory.num_unseen[split],
                fingerprint=factory.split_fingerprints[split],
            )
            for split in SPLITS
            if split in factory.columns
        ],
        has_vocabulary=factory.entities is not None,
        type_constraints_fingerprint=factory.type_constraints_fingerprint or "",
    )


def encode_statistics(counts: RelationCounts, first: int) -> bytes:
    """Make the message about a run of relations."""
    some = counts.run(first, first + RELATIONS_PER_MESSAGE).statistics()
    return pb.GetRelationStatisticsResponse(
        tails_per_head=some.tails_per_head.tolist(),
        heads_per_tail=some.heads_per_tail.tolist(),
        head_probability=some.head_probability.tolist(),
        first_id=first,
    ).SerializeToString()


def encode_datasets(datasets: list[tuple[str, TriplesFactory]]) -> bytes:
    """Make the message about some datasets."""
    return pb.ListDatasetsResponse(
        datasets=[encode_dataset(*each) for each in datasets]
    ).SerializeToString()


class LabelRuns:
    """The labels of a vocabulary, message by message; an iterator over itself."""

    def __init__(
        self, kind: pb.GetVocabularyResponse.Kind.ValueType, vocabulary: Vocabulary
    ) -> None:
        self._kind = kind
        self._vocabulary = vocabulary
        self._first = 0

    def __iter__(self) -> Iterator[LabelRuns]:
        return self

    def __next__(self) -> LabelRuns:
        if self._first == len(self._vocabulary):
            raise StopIteration
        return self

    def message(self) -> bytes:
        """Make the next message."""
        message = pb.GetVocabularyResponse(kind=self._kind, first_id=self._first)
        size = 0
        for label in self._vocabulary.labels(self._first, self._first + _LABELS_PER_MESSAGE):
            message.labels.append(label)
            size += len(label) + 2
            if size > _LABEL_BYTES_PER_MESSAGE:
                break
        self._first += len(message.labels)
        return message.SerializeToString()
