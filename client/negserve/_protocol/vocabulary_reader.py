"""A dataset's vocabularies, read over as many streams as it takes."""

from __future__ import annotations

from negserve._protocol.answers import check_equal, check_range, invalid
from negserve.types.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb

_Kind = pb.GetVocabularyResponse


class VocabularyReader:
    """Labels by id, as far as they came over the stream at hand. Does no I/O.

    Each stream begins anew.

    :ivar request: what each stream is opened with
    """

    def __init__(self, dataset: Dataset) -> None:
        self.request = pb.GetVocabularyRequest(
            dataset=dataset.name, expected_fingerprint=dataset.fingerprint
        )
        self._due = (
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
        """Forget what came: there is another stream."""
        self._ids: dict[int, dict[str, int]] = {kind: {} for kind in self._due}

    def take(self, message: pb.GetVocabularyResponse) -> bool:
        """Take a message; tell whether there are more labels than any stream before has brought.

        One of a kind of labels that this client does not know, of a newer server, is left out.

        :raises InvalidAnswerError: if it does not go on where the one before ended
        """
        if not message.labels:
            raise invalid("labels, number", 0, "at least 1")
        ids, due = self._ids.get(message.kind), self._due.get(message.kind)
        if ids is None or due is None:
            if message.kind == _Kind.KIND_UNSPECIFIED:
                raise invalid("kind", message.kind, "KIND_ENTITY or KIND_RELATION")
            return False
        check_equal("first_id", message.first_id, len(ids))
        check_range("labels, number", len(ids) + len(message.labels), 0, due)
        for label in message.labels:
            if label in ids:
                raise invalid("labels", repr(label), "a label that has no id yet")
            ids[label] = len(ids)
        before, self._most = self._most, max(self._most, sum(map(len, self._ids.values())))
        return self._most > before

    def end(self) -> None:
        """Take note that a stream is over.

        :raises InvalidAnswerError: if labels are missing
        """
        for kind, due in self._due.items():
            check_equal(f"labels of {_Kind.Kind.Name(kind)}", len(self._ids[kind]), due)

    def result(self) -> tuple[dict[str, int], dict[str, int]]:
        """Give the ids of all entity labels and of all relation labels, once a stream is over."""
        return self._ids[_Kind.KIND_ENTITY], self._ids[_Kind.KIND_RELATION]
