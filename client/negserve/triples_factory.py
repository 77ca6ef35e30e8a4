"""A graph that a server holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve import wire
from negserve.config import SamplerConfig
from negserve.connection import Connection
from negserve.dataset import Dataset, Limits
from negserve.epoch import EpochConfig
from negserve.epoch_stream import EpochStream
from negserve.remote_sampler import RemoteSampler
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


class RemoteTriplesFactory:
    """Counts, vocabularies, statistics and samplers of a dataset, over RPC.

    Made by :meth:`negserve.Client.triples_factory`. What does not change is fetched once.
    Thread-safe; picklable.

    :ivar num_triples_per_split: distinct triples by split name
    :ivar num_unseen: triples left out for a label unseen in training, by split name
    :ivar split_fingerprints: SHA-256 of id space and triples, by split name
    :ivar type_constraints_fingerprint: SHA-256 of id space and type constraints; None for a
        dataset without, which the kind ``typed`` can't serve
    """

    def __init__(self, connection: Connection, name: str) -> None:
        answer = connection.call("GetDataset", pb.GetDatasetRequest(dataset=name))
        dataset, limits = answer.dataset, answer.limits
        self._dataset = Dataset(
            connection=connection,
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
            f"RemoteTriplesFactory({self.name!r} at {self._dataset.connection.target}, "
            f"num_entities={self.num_entities}, num_relations={self.num_relations}, "
            f"num_triples={self.num_triples}, fingerprint={self.fingerprint[:12]}...)"
        )

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

    @property
    def entity_to_id(self) -> Mapping[str, int]:
        """Map entity labels to ids; empty for a dataset without labels."""
        return self._vocabularies[0]

    @property
    def relation_to_id(self) -> Mapping[str, int]:
        """Map relation labels to ids; empty for a dataset without labels."""
        return self._vocabularies[1]

    @cached_property
    def entity_labels(self) -> Sequence[str]:
        """Entity labels in the order of their ids."""
        return list(self.entity_to_id)

    @cached_property
    def relation_labels(self) -> Sequence[str]:
        """Relation labels in the order of their ids."""
        return list(self.relation_to_id)

    @cached_property
    def _vocabularies(self) -> tuple[dict[str, int], dict[str, int]]:
        entities: dict[str, int] = {}
        relations: dict[str, int] = {}
        call = self._dataset.connection.stub().GetVocabulary(
            pb.GetVocabularyRequest(dataset=self.name, expected_fingerprint=self.fingerprint)
        )
        for message in self._dataset.connection.messages(call):
            is_entity = message.kind == pb.GetVocabularyResponse.KIND_ENTITY
            vocabulary = entities if is_entity else relations
            for i, label in enumerate(message.labels, start=message.first_id):
                vocabulary[label] = i
        return entities, relations

    @cached_property
    def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        answer = self._dataset.connection.call(
            "GetRelationStatistics",
            pb.GetRelationStatisticsRequest(
                dataset=self.name, expected_fingerprint=self.fingerprint
            ),
        )
        return RelationStatistics(
            np.array(answer.tails_per_head),
            np.array(answer.heads_per_tail),
            np.array(answer.head_probability),
        )

    def open_sampler(self, **options: Any) -> RemoteSampler:
        """Open a sampler.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises NegserveError: typed by what the server said of the configuration
        """
        return RemoteSampler(self._dataset, SamplerConfig(**options))

    def epochs(
        self,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> EpochStream:
        """Stream the training triples with their negatives, epoch after epoch.

        :param sampler: which negatives; its seed also draws the order
        :param config: which positives; None for the defaults
        :param prefetch: batches read ahead, at least 1
        :param digest: whether a running SHA-256 of all batches is kept
        """
        return EpochStream(
            self._dataset, sampler, config or EpochConfig(), prefetch=prefetch, digest=digest
        )

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple whether it is in one of the splits, exactly.

        :param triples: integer ids, shape (n, 3), any n
        :param splits: names of splits, at least one
        :return: shape (n,)
        :raises NegserveError: typed by what the server said
        """
        array = wire.as_triples(triples)
        configuration = pb.ContainsConfiguration(
            dataset=self.name,
            expected_fingerprint=self.fingerprint,
            splits=wire.encode_splits(splits),
        )
        result = np.empty(len(array), dtype=np.bool_)
        done = 0
        call = self._dataset.connection.stub().Contains(
            self._contains_requests(configuration, array)
        )
        for message in self._dataset.connection.messages(call):
            known = wire.decode_flags(message.known, message.num_triples)
            result[done : done + len(known)] = known
            done += len(known)
        return result

    def _contains_requests(
        self, configuration: pb.ContainsConfiguration, triples: NDArray[np.int64]
    ) -> Iterator[pb.ContainsRequest]:
        yield pb.ContainsRequest(configuration=configuration)
        step = self.limits.max_triples_per_message
        for begin in range(0, len(triples), step):
            yield pb.ContainsRequest(
                triples=wire.encode_triples(
                    triples[begin : begin + step], self.num_entities, self.num_relations
                )
            )
