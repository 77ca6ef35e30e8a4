"""A graph that a server holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.budget import Budget
from negserve.config import SamplerConfig
from negserve.connection import Connection
from negserve.contains_exchange import ContainsExchange
from negserve.described_dataset import DescribedDataset, RelationStatistics
from negserve.epoch import EpochConfig
from negserve.epoch_stream import EpochStream
from negserve.remote_sampler import RemoteSampler
from negserve.v1 import sampler_pb2 as pb
from negserve.vocabulary_reader import VocabularyReader


class RemoteTriplesFactory(DescribedDataset):
    """Counts, vocabularies, statistics and samplers of a dataset, over RPC.

    Made by :meth:`negserve.Client.triples_factory`. What does not change is fetched once.
    Thread-safe; picklable.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        answer = connection.call("GetDataset", pb.GetDatasetRequest(dataset=name))
        super().__init__(connection, name, answer)
        self._connection = connection

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
        reader = VocabularyReader(self._dataset)

        def read(budget: Budget) -> None:
            for message in self._connection.open("GetVocabulary", reader.request).messages(budget):
                if reader.take(message):
                    budget.note_progress()

        self._connection.persist(read)
        return reader.result()

    @cached_property
    def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        return RelationStatistics.decode(
            self._connection.call("GetRelationStatistics", self._statistics_request())
        )

    def num_positives(self, relations: Sequence[int] | None = None) -> int:
        """Tell how many positives an epoch has: the training triples of these relations.

        :param relations: relation ids; None for all, which needs no call
        :raises NegserveError: typed by what the server said
        """
        if relations is None:
            return self.num_triples
        request = self._epoch_request(EpochConfig(relations=tuple(relations)))

        def ask(budget: Budget) -> int:
            call = self._connection.open("SampleEpoch", request)
            try:
                return int(call.answer(budget).configured.num_positives)
            finally:
                call.close()

        return self._connection.persist(ask)

    def open_sampler(self, **options: Any) -> RemoteSampler:
        """Open a sampler.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises NegserveError: typed by what the server said of the configuration
        """
        return RemoteSampler(self._connection, self._dataset, SamplerConfig(**options))

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
            self._connection, self._dataset, sampler, config, prefetch=prefetch, digest=digest
        )

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple whether it is in one of the splits, exactly.

        :param triples: integer ids, shape (n, 3), any n
        :param splits: names of splits, at least one
        :return: shape (n,)
        :raises NegserveError: typed by what the server said
        """
        exchange = ContainsExchange(self._dataset, triples, splits)

        def ask(budget: Budget) -> None:
            call = self._connection.open("Contains")
            try:
                call.send(exchange.configuration)
                call.exchange(exchange, budget)
            finally:
                call.close()

        self._connection.persist(ask)
        return exchange.result
