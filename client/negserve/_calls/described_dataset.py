"""What a server tells of a graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from negserve._protocol import messages
from negserve._protocol.answers import check_equal, check_fingerprint, check_range, invalid
from negserve._transport.replicas import Replicas
from negserve.types.dataset import Dataset, Limits
from negserve.types.fingerprint import graph_fingerprint
from negserve.v1 import sampler_pb2 as pb

_SPLIT_NAMES = {value: name for name, value in messages.SPLITS.items()}
_MOST_IDS = 2**32


def check_dataset(path: str, dataset: pb.Dataset) -> None:
    """Refuse what no dataset is.

    A split that this client does not know, of a newer server, is left out.

    :raises InvalidAnswerError: naming the field
    """
    if not dataset.name:
        raise invalid(f"{path}.name", "''", "a name")
    check_range(f"{path}.num_entities", dataset.num_entities, 1, _MOST_IDS)
    check_range(f"{path}.num_relations", dataset.num_relations, 1, _MOST_IDS)
    most = dataset.num_entities**2 * dataset.num_relations
    numbers = [split.split for split in dataset.splits]
    if pb.SPLIT_TRAINING not in numbers or 0 in numbers or len(set(numbers)) < len(numbers):
        raise invalid(f"{path}.splits", numbers, "different ones, training among them")
    for split in dataset.splits:
        check_range(f"{path}.splits.num_triples", split.num_triples, 0, most)
        check_fingerprint(f"{path}.splits.fingerprint", split.fingerprint)
    check_fingerprint(f"{path}.fingerprint", dataset.fingerprint)
    types = dataset.type_constraints_fingerprint or None
    if types is not None:
        check_fingerprint(f"{path}.type_constraints_fingerprint", types)
    if set(numbers) <= set(_SPLIT_NAMES):
        of_splits = {_SPLIT_NAMES[split.split]: split.fingerprint for split in dataset.splits}
        expected = graph_fingerprint(of_splits, types)
        check_equal(f"{path}.fingerprint, by those of its parts", dataset.fingerprint, expected)


def check_limits(path: str, limits: pb.Limits) -> None:
    """Refuse limits that let nothing be asked.

    :raises InvalidAnswerError: naming the field
    """
    for field in (
        "max_negatives_per_positive",
        "max_negatives_per_message",
        "max_triples_per_message",
        "max_unanswered_messages",
        "max_unanswered_bytes",
    ):
        check_range(f"{path}.{field}", getattr(limits, field), 1, 2**64 - 1)


class DescribedDataset:
    """Counts and fingerprints of a dataset, and the requests about it. Does no I/O.

    :ivar num_triples_per_split: distinct triples by split name
    :ivar num_unseen: triples left out for a label unseen in training, by split name
    :ivar split_fingerprints: SHA-256 of id space and triples, by split name
    :ivar type_constraints_fingerprint: SHA-256 of id space and type constraints; None for a
        dataset without, which the kind ``typed`` can't serve
    :raises InvalidAnswerError: if the answer can't be true
    """

    def __init__(self, replicas: Replicas, name: str, answer: pb.GetDatasetResponse) -> None:
        dataset, limits = answer.dataset, answer.limits
        check_equal("dataset.name", dataset.name, name)
        check_dataset("dataset", dataset)
        check_limits("limits", limits)
        splits = [split for split in dataset.splits if split.split in _SPLIT_NAMES]
        self._replicas = replicas
        self._dataset = Dataset(
            name=name,
            fingerprint=dataset.fingerprint,
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
            num_triples=next(
                split.num_triples for split in splits if split.split == pb.SPLIT_TRAINING
            ),
            has_vocabulary=dataset.has_vocabulary,
            limits=Limits(
                limits.max_negatives_per_positive,
                limits.max_negatives_per_message,
                limits.max_triples_per_message,
                limits.max_unanswered_messages,
                limits.max_unanswered_bytes,
            ),
        )
        self.num_triples_per_split: Mapping[str, int] = {
            _SPLIT_NAMES[split.split]: split.num_triples for split in splits
        }
        self.num_unseen: Mapping[str, int] = {
            _SPLIT_NAMES[split.split]: split.num_unseen for split in splits
        }
        self.split_fingerprints: Mapping[str, str] = {
            _SPLIT_NAMES[split.split]: split.fingerprint for split in splits
        }
        self.type_constraints_fingerprint: str | None = dataset.type_constraints_fingerprint or None

    def __repr__(self) -> str:
        return (
            f"RemoteTriplesFactory({self.name!r} at {self._replicas.target}, "
            f"num_entities={self.num_entities}, num_relations={self.num_relations}, "
            f"num_triples={self.num_triples}, fingerprint={self.fingerprint[:12]}...)"
        )

    def keep_restorable(self, restore: Callable[[Any], Awaitable[None]]) -> None:
        """Let replicas that lose the dataset get it again.

        :param restore: publishes the graph, on the replica that it is given
        """
        self._dataset = replace(self._dataset, restore=restore)

    @property
    def name(self) -> str:
        """The dataset's name on the server."""
        return self._dataset.name

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""
        return self._dataset.num_entities

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""
        return self._dataset.num_relations

    @property
    def fingerprint(self) -> str:
        """SHA-256 of id space, triples and type constraints, 64 hexadecimal digits."""
        return self._dataset.fingerprint

    @property
    def limits(self) -> Limits:
        """What one message may ask for."""
        return self._dataset.limits

    @property
    def num_triples(self) -> int:
        """How many distinct training triples there are."""
        return self._dataset.num_triples
