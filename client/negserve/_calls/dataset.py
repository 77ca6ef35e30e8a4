"""A dataset on a server: its description, vocabularies, statistics, lookups and epochs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._calls.answers import read
from negserve._calls.epochs import EpochCursor
from negserve._protocol.answer_readers import (
    RelationStatisticsReader,
    VocabularyReader,
)
from negserve._protocol.descriptions import DatasetDescription
from negserve._protocol.epoch_progress import EpochProgress
from negserve._protocol.known_pipeline import KnownPipeline
from negserve._protocol.pipelines import ContainsPipeline, RequestPipeline
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._transport.transport import RetryBudget, Transport
from negserve.types.answers.known_values import KnownValues
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import SamplerConfig, Slot
from negserve.types.dataset import Limits
from negserve.types.epoch import EpochConfig

_Transport = TypeVar("_Transport", bound=Transport)
_Stream = TypeVar("_Stream", bound=EpochCursor[Any, Any])


class RemoteDataset(Generic[_Transport, _Stream]):
    """A server's description of a dataset, and its coroutines.

    :ivar num_triples_per_split: distinct triples by split name
    :ivar num_unseen: triples left out for a label unseen in training, by split name
    :ivar split_fingerprints: SHA-256 of id space and triples, by split name
    :ivar type_constraints_fingerprint: SHA-256 of id space and type constraints; None for a
        dataset without them, which the kind ``typed`` can't use
    """

    _stream_class: type[_Stream]

    def __init__(self, transport: _Transport, description: DatasetDescription) -> None:
        self._transport = transport
        self._dataset = description.dataset
        self.num_triples_per_split = description.num_triples_per_split
        self.num_unseen = description.num_unseen
        self.split_fingerprints = description.split_fingerprints
        self.type_constraints_fingerprint = description.type_constraints_fingerprint

    def __repr__(self) -> str:
        return (
            f"RemoteTriplesFactory({self.name!r} at {self._transport.replicas.target}, "
            f"num_entities={self.num_entities}, num_relations={self.num_relations}, "
            f"num_triples={self.num_triples}, fingerprint={self.fingerprint[:12]}...)"
        )

    def keep_restorable(self, restore: Callable[[Any], Awaitable[bool]]) -> None:
        """Publish the dataset again on replicas that lose it.

        :param restore: publishes the graph over a transport to one replica; see :class:`.Dataset`
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
        """Limits of one message."""
        return self._dataset.limits

    @property
    def num_triples(self) -> int:
        """Number of distinct training triples."""
        return self._dataset.num_triples

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
        :param prefetch: batches read ahead, at least 1; those of a message are read together
        :param digest: whether to keep a running SHA-256 of all batches
        :raises LeakageWarning: where Python is told to raise it, for a filter over validation or
            testing triples
        """
        warn_of_leakage(sampler.filter_splits)
        return self._stream_class(
            self._transport, self._dataset, sampler, config, prefetch=prefetch, digest=digest
        )

    async def _read_vocabularies(self) -> tuple[dict[str, int], dict[str, int]]:
        reader = VocabularyReader(self._dataset)
        return await read(self._transport, "GetVocabulary", reader, self._dataset)

    async def _ask_relation_statistics(self) -> RelationStatistics:
        reader = RelationStatisticsReader(self._dataset)
        return await read(self._transport, "GetRelationStatistics", reader, self._dataset)

    async def _ask_num_positives(self, relations: Sequence[int] | None) -> int:
        if relations is None:
            return self.num_triples
        # Its first answer tells how many positives an epoch has.
        sampler, config = SamplerConfig(), EpochConfig(relations=tuple(relations))
        echo = SamplerEcho(self._dataset, sampler)
        progress = EpochProgress(self._dataset, sampler, config, epoch=0, start=0, echo=echo)

        async def ask(budget: RetryBudget) -> int:
            with await self._transport.open("SampleEpoch", progress.request()) as call:
                answer = await call.answer(budget)
                with call.answering():
                    return progress.configure(answer).num_positives

        return await self._transport.retry(ask, dataset=self._dataset)

    async def _look_up(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        pipeline = ContainsPipeline(self._dataset, triples, splits)
        await self._run("Contains", pipeline, pipeline.configuration)
        return pipeline.result

    async def _find_known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        pipeline = KnownPipeline(self._dataset, pairs, slot, splits)
        await self._run("Known", pipeline, pipeline.configuration)
        return pipeline.result

    async def _run(
        self, method: str, pipeline: RequestPipeline[Any, Any, Any], configuration: object
    ) -> None:
        """Carry out requests, over as many streams as it takes."""

        async def ask(budget: RetryBudget) -> None:
            with await self._transport.open(method) as call:
                call.send_all([configuration])
                await call.run(pipeline, budget)

        await self._transport.retry(ask, dataset=self._dataset)
