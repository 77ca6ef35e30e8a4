"""The RPCs: validate, call the engine, encode; nothing else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import aclosing
from importlib.metadata import version
from itertools import islice
from typing import TypeVar

from negserve.v1 import sampler_pb2 as pb
from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch, EpochConfig
from negserve_server.graph.upload import Upload
from negserve_server.sampling import (
    ALGORITHM_VERSION,
    SPLITS,
    CorruptedBatch,
    Sampler,
    SamplerConfig,
)
from negserve_server.sampling.batch import narrowest_dtype
from negserve_server.service import wire
from negserve_server.service.datasets import Datasets
from negserve_server.service.first_positives import FirstPositives
from negserve_server.service.limits import Limits, check_limit
from negserve_server.service.publications import Publication, Publications
from negserve_server.service.remarks import Remarks
from negserve_server.service.stream import ServerStream

_T = TypeVar("_T")

#: Below so many negatives (some 0.1 ms) a hop to another thread costs more than the work.
_INLINE_NEGATIVES = 8192
#: Messages of this size, and up to one batch more, move most bytes per second over loopback.
_EPOCH_MESSAGE_BYTES = 384 * 1024
#: Messages of an epoch that are made while the client takes one: one a core of a small machine.
_MESSAGES_AHEAD = 2
_LABEL_BYTES_PER_MESSAGE = 256 * 1024
#: 24 bytes each.
_RELATIONS_PER_MESSAGE = 8192
#: Some 500 bytes each.
_DATASETS_PER_MESSAGE = 256
#: A client that has to wait for a graph hears that often that it is on its way.
_SIGN_OF_LIFE_SECONDS = 0.5
_STAGE = pb.PublishProgress.Stage


class SamplerServicer:
    """Answers the RPCs of ``negserve.v1.SamplerService``.

    :param datasets: the graphs
    :param publications: those that clients send
    :param limits: what may be asked for
    :param executor: threads for the engine, which releases the GIL
    """

    def __init__(
        self, datasets: Datasets, publications: Publications, limits: Limits, executor: Executor
    ) -> None:
        self._datasets = datasets
        self._publications = publications
        self._limits = limits
        self._executor = executor
        self._remarks = Remarks()

    async def sample(
        self, stream: ServerStream[pb.SampleRequest]
    ) -> AsyncIterator[pb.SampleResponse]:
        """Answer a ``Sample`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "configuration")
        configuration = first.configuration
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        with self._datasets.in_use(configuration.dataset):
            sampler = await self._in_thread(self._configure, factory, configuration.sampler)
            yield pb.SampleResponse(
                configured=pb.SampleConfigured(
                    fingerprint=factory.fingerprint, sampler=wire.encode_config(sampler.config)
                )
            )
            self._remarks.of_leakage(
                configuration.dataset, factory, sampler.config.filter_splits, epochs=False
            )
            first_positives = FirstPositives(configuration.dataset, factory)
            while (request := await stream.read()) is not None:
                _expect(request.WhichOneof("message"), "positives")
                batch = await self._corrupt(sampler, request.positives, first_positives)
                yield pb.SampleResponse(
                    batch=wire.encode_batch(batch),
                    notices=(
                        await self._judge(factory, first_positives)
                        if first_positives.are_due
                        else ()
                    ),
                )

    async def _judge(
        self, factory: TriplesFactory, first_positives: FirstPositives
    ) -> list[pb.Notice]:
        text = await self._in_thread(first_positives.judge)
        if text is None:
            return []
        self._remarks.of_unknown_positives(factory, text)
        return [pb.Notice(kind=pb.Notice.KIND_UNKNOWN_POSITIVES, text=text)]

    def _configure(self, factory: TriplesFactory, message: pb.SamplerConfig) -> Sampler:
        return factory.sampler(wire.decode_config(message, self._limits))

    async def sample_epoch(
        self, request: pb.SampleEpochRequest
    ) -> AsyncIterator[pb.SampleEpochResponse]:
        """Answer ``SampleEpoch``; further messages are made while the client takes the last one."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
        with self._datasets.in_use(request.dataset):
            async with aclosing(self._epoch_messages(factory, request)) as messages:
                async for message in messages:
                    yield message

    async def _epoch_messages(
        self, factory: TriplesFactory, request: pb.SampleEpochRequest
    ) -> AsyncGenerator[pb.SampleEpochResponse, None]:
        config = wire.decode_config(request.sampler, self._limits)
        epoch_config = wire.decode_epoch(request, self._limits)
        epoch = await self._in_thread(factory.epoch, config, epoch_config)
        self._remarks.of_leakage(request.dataset, factory, config.filter_splits, epochs=True)
        yield pb.SampleEpochResponse(
            configured=pb.EpochConfigured(
                fingerprint=factory.fingerprint,
                sampler=wire.encode_config(config),
                num_positives=epoch.num_positives,
                num_batches=len(epoch),
            )
        )
        step = _batches_per_message(factory, config, epoch_config)

        def make(index: int) -> asyncio.Future[pb.SampleEpochResponse]:
            batches = range(index, min(index + step, len(epoch)))
            return asyncio.ensure_future(self._in_thread(_epoch_message, factory, epoch, batches))

        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.max_stream_seconds
        indices = iter(range(0, len(epoch), step))
        coming = deque(make(index) for index in islice(indices, _MESSAGES_AHEAD))
        try:
            while coming:
                message = await coming.popleft()
                # Ended early, a stream is opened again by the client, on any replica.
                if loop.time() <= deadline:
                    coming.extend(make(index) for index in islice(indices, 1))
                yield message
        finally:
            for future in coming:
                future.cancel()

    async def _corrupt(
        self, sampler: Sampler, request: pb.Positives, first_positives: FirstPositives
    ) -> CorruptedBatch:
        positives = wire.decode_triples(request.triples, self._limits)
        first_positives.add(positives)
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
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        splits = wire.decode_splits(configuration.splits, "splits")
        with self._datasets.in_use(configuration.dataset):
            index = await self._in_thread(factory.filter_index, splits)
            while (request := await stream.read()) is not None:
                _expect(request.WhichOneof("message"), "triples")
                triples = wire.decode_triples(request.triples, self._limits)
                known = await self._in_thread(index.contains, triples)
                yield pb.ContainsResponse(num_triples=len(known), known=wire.encode_flags(known))

    def get_server(self, _: pb.GetServerRequest) -> pb.GetServerResponse:
        """Answer ``GetServer``."""
        return pb.GetServerResponse(
            version=version("negserve"),
            algorithm_versions=[ALGORITHM_VERSION],
            limits=wire.encode_limits(self._limits),
        )

    async def list_datasets(
        self, _: pb.ListDatasetsRequest
    ) -> AsyncIterator[pb.ListDatasetsResponse]:
        """Answer ``ListDatasets``."""
        datasets = iter(list(self._datasets.items()))
        while run := list(islice(datasets, _DATASETS_PER_MESSAGE)):
            yield pb.ListDatasetsResponse(datasets=[_describe(*each) for each in run])

    def get_dataset(self, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        """Answer ``GetDataset``."""
        factory = self._datasets.find(request.dataset)
        return pb.GetDatasetResponse(
            dataset=_describe(request.dataset, factory), limits=wire.encode_limits(self._limits)
        )

    async def get_relation_statistics(
        self, request: pb.GetRelationStatisticsRequest
    ) -> AsyncIterator[pb.GetRelationStatisticsResponse]:
        """Answer ``GetRelationStatistics``."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
        statistics = await self._in_thread(lambda: factory.relation_statistics)
        for first in range(0, factory.num_relations, _RELATIONS_PER_MESSAGE):
            run = slice(first, first + _RELATIONS_PER_MESSAGE)
            yield pb.GetRelationStatisticsResponse(
                tails_per_head=statistics.tails_per_head[run],
                heads_per_tail=statistics.heads_per_tail[run],
                head_probability=statistics.head_probability[run],
                first_id=first,
            )

    async def get_vocabulary(
        self, request: pb.GetVocabularyRequest
    ) -> AsyncIterator[pb.GetVocabularyResponse]:
        """Answer ``GetVocabulary``."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
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

    async def publish(
        self, stream: ServerStream[pb.PublishRequest]
    ) -> AsyncIterator[pb.PublishResponse]:
        """Answer a ``Publish`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "announcement")
        announcement = wire.decode_announcement(first.announcement)
        is_mine = False
        while not self._publications.is_served(announcement):
            publication = self._publications.join(announcement)
            if not publication.has_uploader:
                is_mine = True
                with self._publications.uploading(publication) as upload:
                    yield pb.PublishResponse(
                        upload=pb.PublishUpload(
                            max_triples_per_chunk=self._limits.max_triples_per_message
                        )
                    )
                    stream.idle_timeout = self._limits.upload_idle_timeout
                    while (due := upload.due) is not None:
                        request = await stream.read() or pb.PublishRequest()
                        _expect(request.WhichOneof("message"), due)
                        await self._in_thread(self._take, upload, request)
                        yield _progress(publication, is_mine)
            else:
                yield _progress(publication, is_mine)
            await publication.wait(_SIGN_OF_LIFE_SECONDS, is_mine)
        yield pb.PublishResponse(
            published=pb.Published(
                dataset=_describe(announcement.name, self._datasets[announcement.name]),
                limits=wire.encode_limits(self._limits),
            )
        )

    def _take(self, upload: Upload, request: pb.PublishRequest) -> None:
        if request.HasField("chunk"):
            upload.add(*wire.decode_chunk(request.chunk, self._limits))
        elif request.HasField("type_constraints"):
            upload.add_type_constraints(
                *wire.decode_type_constraints(request.type_constraints, self._limits)
            )
        else:
            upload.add_labels(*wire.decode_labels(request.labels))

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)


def _batches_per_message(
    factory: TriplesFactory, sampler: SamplerConfig, epoch: EpochConfig
) -> int:
    """Say how many batches travel together: so many of each message that several can be begun."""
    num_negatives = epoch.batch_size * sampler.num_negs_per_pos
    num_bytes = num_negatives * narrowest_dtype(factory.num_entities).itemsize
    return max(1, -(-_EPOCH_MESSAGE_BYTES // num_bytes))


def _epoch_message(factory: TriplesFactory, epoch: Epoch, indices: range) -> pb.SampleEpochResponse:
    """Make a message of some batches."""
    message = pb.SampleEpochResponse()
    for index in indices:
        encoded = message.batches.batches.add()
        wire.encode_epoch_batch(
            epoch.batch(index), factory.num_entities, factory.num_relations, encoded
        )
    return message


def _progress(publication: Publication, is_mine: bool) -> pb.PublishResponse:
    stage = _STAGE.STAGE_UPLOADING if is_mine else _STAGE.STAGE_WAITING
    return pb.PublishResponse(
        progress=pb.PublishProgress(
            stage=_STAGE.STAGE_BUILDING if publication.is_building else stage,
            num_received=publication.upload.num_received,
            num_triples=publication.announcement.total,
        )
    )


def _expect(found: str | None, due: str) -> None:
    if found != due:
        raise InvalidInput(
            f"the message holds {found or 'nothing'} where {due} is due: a stream begins with "
            f"one configuration or announcement, and only that",
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
