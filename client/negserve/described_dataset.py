"""What a server tells of a graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve import wire
from negserve.dataset import Dataset, Limits
from negserve.replicas import Replicas
from negserve.v1 import sampler_pb2 as pb

_SPLIT_NAMES = {value: name for name, value in wire.SPLITS.items()}


@dataclass(frozen=True, slots=True)
class RelationStatistics:
    """Statistics of the training triples per relation id, float64, shape (num_relations,).

    :ivar tails_per_head: tph; NaN for a relation without training triples
    :ivar heads_per_tail: hpt; NaN likewise
    :ivar head_probability: tph / (tph + hpt), with which Bernoulli sampling replaces the
        head; 0.5 for a relation without training triples
    """

    tails_per_head: NDArray[np.float64]
    heads_per_tail: NDArray[np.float64]
    head_probability: NDArray[np.float64]

    @classmethod
    def decode(cls, answer: pb.GetRelationStatisticsResponse) -> RelationStatistics:
        """Decode the server's answer."""
        return cls(
            np.array(answer.tails_per_head),
            np.array(answer.heads_per_tail),
            np.array(answer.head_probability),
        )


class DescribedDataset:
    """Counts and fingerprints of a dataset, and the requests about it. Does no I/O.

    :ivar num_triples_per_split: distinct triples by split name
    :ivar num_unseen: triples left out for a label unseen in training, by split name
    :ivar split_fingerprints: SHA-256 of id space and triples, by split name
    :ivar type_constraints_fingerprint: SHA-256 of id space and type constraints; None for a
        dataset without, which the kind ``typed`` can't serve
    """

    def __init__(self, replicas: Replicas, name: str, answer: pb.GetDatasetResponse) -> None:
        dataset, limits = answer.dataset, answer.limits
        self._replicas = replicas
        self._dataset = Dataset(
            name=name,
            fingerprint=dataset.fingerprint,
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
            limits=Limits(
                limits.max_negatives_per_positive,
                limits.max_negatives_per_message,
                limits.max_triples_per_message,
            ),
        )
        self.num_triples_per_split: Mapping[str, int] = {
            _SPLIT_NAMES[split.split]: split.num_triples for split in dataset.splits
        }
        self.num_unseen: Mapping[str, int] = {
            _SPLIT_NAMES[split.split]: split.num_unseen for split in dataset.splits
        }
        self.split_fingerprints: Mapping[str, str] = {
            _SPLIT_NAMES[split.split]: split.fingerprint for split in dataset.splits
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
        return self.num_triples_per_split["training"]
