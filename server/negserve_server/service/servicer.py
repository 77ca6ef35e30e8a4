"""The RPCs: validate, call the engine, encode; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from typing import TypeVar

from negserve.v1 import sampler_pb2 as pb
from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.sampling import SPLITS, CorruptedBatch, Sampler
from negserve_server.service import wire
from negserve_server.service.limits import Limits, check_limit
from negserve_server.service.stream import ServerStream

_T = TypeVar("_T")

#: Below so many negatives (some 0.1 ms) a hop to another thread costs more than the work.
_INLINE_NEGATIVES = 8192
#: Messages of this size, and up to one batch more, move most bytes per second over loopback.
_EPOCH_MESSAGE_BYTES = 384 * 1024
_LABEL_BYTES_PER_MESSAGE = 256 * 1024


class SamplerServicer:
    """Answers the RPCs of ``negserve.v1.SamplerService``.

    :param datasets: the graphs by name, in the order in which they are listed
    :param limits: what may be asked for
    :param executor: threads for the engine, which releases the GIL
    """

    def __init__(
        self, datasets: Mapping[str, TriplesFactory], limits: Limits, executor: Executor
    ) -> None:
        self._datasets = dict(datasets)
        self._limits = limits
        self._executor = executor

    def _dataset(self, name: str, expected_fingerprint: str = "") -> TriplesFactory:
        factory = self._datasets.get(name)
        if factory is None:
            served = ", ".join(self._datasets)
            raise InvalidInput(
                f"there is no dataset {name!r}; this server has {served}",
                reason="UNKNOWN_DATASET",
                value=name,
                limit=served,
            )
        if expected_fingerprint and expected_fingerprint != factory.fingerprint:
            raise InvalidInput(
                f"dataset {name!r} has fingerprint {factory.fingerprint}, not "
                f"{expected_fingerprint}; load the same data on both sides",
                reason="FINGERPRINT_MISMATCH",
                value=expected_fingerprint,
                limit=factory.fingerprint,
            )
        return factory

    async def sample(
        self, stream: ServerStream[pb.SampleRequest]
    ) -> AsyncIterator[pb.SampleResponse]:
        """Answer a ``Sample`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "configuration")
        configuration = first.configuration
        factory = self._dataset(configuration.dataset, configuration.expected_fingerprint)
        sampler = await self._in_thread(self._configure, factory, configuration.sampler)
        yield pb.SampleResponse(
            configured=pb.SampleConfigured(
                fingerprint=factory.fingerprint, sampler=wire.encode_config(sampler.config)
            )
        )
        while (request := await stream.read()) is not None:
            _expect(request.WhichOneof("message"), "positives")
            batch = await self._corrupt(sampler, request.positives)
            yield pb.SampleResponse(batch=wire.encode_batch(batch))

    def _configure(self, factory: TriplesFactory, message: pb.SamplerConfig) -> Sampler:
        return factory.sampler(wire.decode_config(message, self._limits))

    async def sample_epoch(
        self, request: pb.SampleEpochRequest
    ) -> AsyncIterator[pb.SampleEpochResponse]:
        """Answer ``SampleEpoch``; the next message is made while the client takes the last one."""
        factory = self._dataset(request.dataset, request.expected_fingerprint)
        config = wire.decode_config(request.sampler, self._limits)
        epoch_config = wire.decode_epoch(request, self._limits)
        epoch = await self._in_thread(factory.epoch, config, epoch_config)
        yield pb.SampleEpochResponse(
            configured=pb.EpochConfigured(
                fingerprint=factory.fingerprint,
                sampler=wire.encode_config(config),
                num_positives=epoch.num_positives,
                num_batches=len(epoch),
            )
        )
        loop = asyncio.get_running_loop()

        def make(index: int) -> asyncio.Future[tuple[pb.SampleEpochResponse, int]]:
            return asyncio.ensure_future(self._in_thread(_epoch_message, factory, epoch, index))

        deadline = loop.time() + self._limits.max_stream_seconds
        coming = make(0) if len(epoch) else None
        try:
            while coming is not None:
                message, index = await coming
                # Ended early, a stream is opened again by the client, on any replica.
                is_last = index == len(epoch) or loop.time() > deadline
                coming = None if is_last else make(index)
                yield message
        finally:
            if coming is not None:
                coming.cancel()

    async def _corrupt(self, sampler: Sampler, request: pb.Positives) -> CorruptedBatch:
        positives = wire.decode_triples(request.triples, self._limits)
        num_negatives = len(positives) * sampler.config.num_negs_per_pos
        check_limit(
            "negatives",
            num_negatives,
            self._limits.negatives_per_message(sampler.config.log_q),
            "split the batch over several messages",
        )
        if num_negatives <= _INLINE_NEGATIVES:
            return sampler.sample(positives, request.position)
        return await self._in_thread(sampler.sample, positives, request.position)

    async def contains(
        self, stream: ServerStream[pb.ContainsRequest]
    ) -> AsyncIterator[pb.ContainsResponse]:
        """Answer a ``Contains`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "configuration")
        configuration = first.configuration
        factory = self._dataset(configuration.dataset, configuration.expected_fingerprint)
        splits = wire.decode_splits(configuration.splits, "splits")
        index = await self._in_thread(factory.filter_index, splits)
        while (request := await stream.read()) is not None:
            _expect(request.WhichOneof("message"), "triples")
            triples = wire.decode_triples(request.triples, self._limits)
            known = await self._in_thread(index.contains, triples)
            yield pb.ContainsResponse(num_triples=len(known), known=wire.encode_flags(known))

    def list_datasets(self, _: pb.ListDatasetsRequest) -> pb.ListDatasetsResponse:
        """Answer ``ListDatasets``."""
        return pb.ListDatasetsResponse(
            datasets=[_describe(name, factory) for name, factory in self._datasets.items()]
        )

    def get_dataset(self, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        """Answer ``GetDataset``."""
        factory = self._dataset(request.dataset)
        limits = self._limits
        return pb.GetDatasetResponse(
            dataset=_describe(request.dataset, factory),
            limits=pb.Limits(
                max_negatives_per_positive=limits.max_negatives_per_positive,
                max_negatives_per_message=limits.max_negatives_per_message,
                max_triples_per_message=limits.max_triples_per_message,
            ),
        )

    def get_relation_statistics(
        self, request: pb.GetRelationStatisticsRequest
    ) -> pb.GetRelationStatisticsResponse:
        """Answer ``GetRelationStatistics``."""
        statistics = self._dataset(
            request.dataset, request.expected_fingerprint
        ).relation_statistics
        return pb.GetRelationStatisticsResponse(
            tails_per_head=statistics.tails_per_head,
            heads_per_tail=statistics.heads_per_tail,
            head_probability=statistics.head_probability,
        )

    async def get_vocabulary(
        self, request: pb.GetVocabularyRequest
    ) -> AsyncIterator[pb.GetVocabularyResponse]:
        """Answer ``GetVocabulary``."""
        factory = self._dataset(request.dataset, request.expected_fingerprint)
        for kind, vocabulary in (
            (pb.GetVocabularyResponse.KIND_ENTITY, factory.entities),
            (pb.GetVocabularyResponse.KIND_RELATION, factory.relations),
        ):
            if vocabulary is None:
                continue
            message = pb.GetVocabularyResponse(kind=kind)
            size = 0
            for i, label in enumerate(vocabulary.labels()):
                if size > _LABEL_BYTES_PER_MESSAGE:
                    yield message
                    message = pb.GetVocabularyResponse(kind=kind, first_id=i)
                    size = 0
                message.labels.append(label)
                size += len(label) + 2
            yield message

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)


def _epoch_message(
    factory: TriplesFactory, epoch: Epoch, index: int
) -> tuple[pb.SampleEpochResponse, int]:
    """Make a message of some batches from an index on; give it and the next index."""
    message = pb.SampleEpochResponse()
    num_bytes = 0
    while index < len(epoch) and num_bytes < _EPOCH_MESSAGE_BYTES:
        batch = epoch.batch(index)
        encoded = message.batches.batches.add()
        wire.encode_epoch_batch(batch, factory.num_entities, factory.num_relations, encoded)
        num_bytes += batch.negatives.replaced.nbytes
        index += 1
    return message, index


def _expect(found: str | None, due: str) -> None:
    if found != due:
        raise InvalidInput(
            f"the message holds {found or 'nothing'} where {due} is due: a stream begins with "
            f"one configuration, and only that",
            reason="STREAM_OUT_OF_ORDER",
            value=found or "nothing",
            limit=due,
        )


def _describe(name: str, factory: TriplesFactory) -> pb.Dataset:
    return pb.Dataset(
        name=name,
        fingerprint=factory.fingerprint,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        splits=[
            pb.SplitSummary(
                split=wire.SPLIT_VALUES[split],  # type: ignore[arg-type]
                num_triples=len(factory.splits[split]),
                num_unseen=factory.num_unseen[split],
                fingerprint=factory.split_fingerprints[split],
            )
            for split in SPLITS
            if split in factory.splits
        ],
        has_vocabulary=factory.entities is not None,
        type_constraints_fingerprint=factory.type_constraints_fingerprint or "",
    )
