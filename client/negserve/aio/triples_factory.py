"""A graph that a server holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.aio.connection import Connection
from negserve.aio.epoch_stream import EpochStream
from negserve.aio.remote_sampler import RemoteSampler
from negserve.budget import Budget
from negserve.config import SamplerConfig
from negserve.contains_exchange import ContainsExchange
from negserve.described_dataset import DescribedDataset, RelationStatistics
from negserve.epoch import EpochConfig
from negserve.v1 import sampler_pb2 as pb
from negserve.vocabulary_reader import VocabularyReader


class RemoteTriplesFactory(DescribedDataset):
    """Counts, vocabularies, statistics and samplers of a dataset, over RPC.

    Made by :meth:`Client.triples_factory`. What :class:`negserve.RemoteTriplesFactory` asks the
    server for is to be awaited here. What does not change is fetched once.
    """

    def __init__(self, connection: Connection, name: str, answer: pb.GetDatasetResponse) -> None:
        super().__init__(connection, name, answer)
        self._connection = connection
        self._vocabularies: tuple[dict[str, int], dict[str, int]] | None = None
        self._relation_statistics: RelationStatistics | None = None

    async def entity_to_id(self) -> Mapping[str, int]:
        """Map entity labels to ids; empty for a dataset without labels."""
        return (await self._fetch_vocabularies())[0]

    async def relation_to_id(self) -> Mapping[str, int]:
        """Map relation labels to ids; empty for a dataset without labels."""
        return (await self._fetch_vocabularies())[1]

    async def entity_labels(self) -> Sequence[str]:
        """Entity labels in the order of their ids."""
        return list(await self.entity_to_id())

    async def relation_labels(self) -> Sequence[str]:
        """Relation labels in the order of their ids."""
        return list(await self.relation_to_id())

    async def _fetch_vocabularies(self) -> tuple[dict[str, int], dict[str, int]]:
        if self._vocabularies is None:
            reader = VocabularyReader(self._dataset)

            async def read(budget: Budget) -> None:
                call = self._connection.open("GetVocabulary", reader.request)
                async with aclosing(call.messages(budget)) as messages:
                    async for message in messages:
                        if reader.take(message):
                            budget.note_progress()

            await self._connection.persist(read)
            self._vocabularies = reader.result()
        return self._vocabularies

    async def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        if self._relation_statistics is None:
            self._relation_statistics = RelationStatistics.decode(
                await self._connection.call("GetRelationStatistics", self._statistics_request())
            )
        return self._relation_statistics

    async def num_positives(self, relations: Sequence[int] | None = None) -> int:
        """Tell how many positives an epoch has: the training triples of these relations.

        :param relations: relation ids; None for all, which needs no call
        :raises NegserveError: typed by what the server said
        """
        if relations is None:
            return self.num_triples
        request = self._epoch_request(EpochConfig(relations=tuple(relations)))

        async def ask(budget: Budget) -> int:
            call = self._connection.open("SampleEpoch", request)
            try:
                return int((await call.answer(budget)).configured.num_positives)
            finally:
                call.close()

        return await self._connection.persist(ask)

    async def open_sampler(self, **options: Any) -> RemoteSampler:
        """Open a sampler.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises NegserveError: typed by what the server said of the configuration
        """
        sampler = RemoteSampler(self._connection, self._dataset, SamplerConfig(**options))
        await sampler.open()
        return sampler

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

    async def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple whether it is in one of the splits, exactly.

        :param triples: integer ids, shape (n, 3), any n
        :param splits: names of splits, at least one
        :return: shape (n,)
        :raises NegserveError: typed by what the server said
        """
        exchange = ContainsExchange(self._dataset, triples, splits)

        async def ask(budget: Budget) -> None:
            call = self._connection.open("Contains")
            try:
                call.send(exchange.configuration)
                await call.exchange(exchange, budget)
            finally:
                call.close()

        await self._connection.persist(ask)
        return exchange.result
