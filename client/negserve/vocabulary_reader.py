"""A dataset's vocabularies, read over as many streams as it takes."""

from __future__ import annotations

from negserve.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb


class VocabularyReader:
    """Labels by id, as far as they came. Does no I/O.

    Each stream begins anew; what came before is left out.

    :ivar request: what each stream is opened with
    """

    def __init__(self, dataset: Dataset) -> None:
        self.request = pb.GetVocabularyRequest(
            dataset=dataset.name, expected_fingerprint=dataset.fingerprint
        )
        self._entities: list[str] = []
        self._relations: list[str] = []

    def take(self, message: pb.GetVocabularyResponse) -> bool:
        """Take a message; tell whether it had something new."""
        is_entity = message.kind == pb.GetVocabularyResponse.KIND_ENTITY
        labels = self._entities if is_entity else self._relations
        before = len(labels)
        labels += message.labels[before - message.first_id :]
        return len(labels) > before

    def result(self) -> tuple[dict[str, int], dict[str, int]]:
        """Give the ids of all entity labels and of all relation labels, once a stream is over."""
        entities, relations = (
            {label: i for i, label in enumerate(labels)}
            for labels in (self._entities, self._relations)
        )
        return entities, relations
