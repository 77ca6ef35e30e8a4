"""A graph that a server holds, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._calls.described_dataset import DescribedDataset
from negserve._calls.epoch_cursor import EpochCursor
from negserve._calls.leakage import warn_of_leakage
from negserve._protocol.contains_exchange import ContainsExchange
from negserve._protocol.epoch_progress import EpochProgress
from negserve._protocol.sampler_echo import SamplerEcho
from negserve._protocol.statistics_reader import StatisticsReader
from negserve._protocol.vocabulary_reader import VocabularyReader
from negserve._transport.budget import Budget
from negserve._transport.transport import Transport
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve.types.relation_statistics import RelationStatistics
from negserve.v1 import sampler_pb2 as pb

_Connection = TypeVar("_Connection", bound=Transport)
_Stream = TypeVar("_Stream", bound=EpochCursor[Any])


class RemoteDataset(DescribedDataset, Generic[_Connection, _Stream]):
    """What a server told of a dataset, and how it is asked for more.

    Whatever waits here is a coroutine, as in :class:`negserve._transport.transport.Transport`.
    """

    _stream_class: type[_Stream]

    def __init__(self, connection: _Connection, name: str, answer: pb.GetDatasetResponse) -> None:
        super().__init__(connection, name, answer)
        self._connection = connection

    def epochs(
        self,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> _Stream:
        """Stream the training triples with their negatives, epoch after epoch.

        :param sampler: which negatives; its seed also draws the order
        :param config: which positives; None for the defaults
        :param prefetch: batches read ahead, at least 1
        :param digest: whether a running SHA-256 of all batches is kept
        :raises LeakageWarning: where Python is told to raise it, for a filter over validation or
            testing triples
        """
        warn_of_leakage(sampler.filter_splits)
        return self._stream_class(
            self._connection, self._dataset, sampler, config, prefetch=prefetch, digest=digest
        )

    async def _read_vocabularies(self) -> tuple[dict[str, int], dict[str, int]]:
        reader = VocabularyReader(self._dataset)
        return await self._connection.read("GetVocabulary", reader, self._dataset)

    async def _ask_relation_statistics(self) -> RelationStatistics:
        reader = StatisticsReader(self._dataset)
        return await self._connection.read("GetRelationStatistics", reader, self._dataset)

    async def _ask_num_positives(self, relations: Sequence[int] | None) -> int:
        if relations is None:
            return self.num_triples
        # Its first answer tells how many positives an epoch has.
        sampler, config = SamplerConfig(), EpochConfig(relations=tuple(relations))
        echo = SamplerEcho(self._dataset, sampler)
        progress = EpochProgress(self._dataset, sampler, config, epoch=0, start=0, echo=echo)

        async def ask(budget: Budget) -> int:
            with self._connection.open("SampleEpoch", progress.request()) as call:
                answer = await call.answer(budget)
                with call.saying():
                    return progress.configure(answer).num_positives

        return await self._connection.persist(ask, dataset=self._dataset)

    async def _look_up(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        exchange = ContainsExchange(self._dataset, triples, splits)

        async def ask(budget: Budget) -> None:
            with self._connection.open("Contains") as call:
                call.send(exchange.configuration)
                await call.exchange(exchange, budget)

        await self._connection.persist(ask, dataset=self._dataset)
        return exchange.result
