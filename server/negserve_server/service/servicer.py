"""The RPCs: validate, call the engine, encode; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import islice
from typing import TypeVar

from negserve.types.config import SamplerConfig
from negserve.v1 import sampler_pb2 as pb
from negserve_server.access.caller import CALLER
from negserve_server.admission.fair_queue import Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import BudgetShare, SendBudget
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.errors import MalformedSnapshot
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.logs.audit import auditing_refusals
from negserve_server.logs.call import note_dataset
from negserve_server.metrics.server_metrics import NO_METRICS, ServerMetrics
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publisher import Publisher
from negserve_server.sampling import ALGORITHM_VERSION
from negserve_server.service import (
    dataset_messages,
    messages,
    publish_messages,
    snapshot_messages,
)
from negserve_server.service.epoch_messages import EpochMessages
from negserve_server.service.operator_warnings import OperatorWarnings
from negserve_server.service.streams.lookup_streams import LookupStreams
from negserve_server.service.streams.requests import expect, find_dataset
from negserve_server.service.streams.sample_streams import SampleStreams

_T = TypeVar("_T")
_Item = TypeVar("_Item")

#: Read once, as it comes from the disk.
_VERSION = version("negserve")
#: Size of a request up to which it is decoded on the event loop.
_SMALL_REQUEST_BYTES = 1024
#: Configurations of such requests that are remembered decoded: checking one takes time.
_CONFIGURATIONS = 256
#: Approximate size of the largest message of a list.
_PIECE_BYTES = 256 * 1024
#: Work of one message of a list, as a number of negatives.
_PIECE_WORK = 1 << 15
#: Interval of progress messages to a client that waits for a graph.
_PROGRESS_SECONDS = 0.5


class SamplerServicer:
    """Answers the RPCs of ``negserve.v1.SamplerService``.

    :param datasets: the graphs
    :param publisher: takes graphs from clients
    :param limits: how much callers may ask for
    :param scheduler: runs the work of streams
    :param worker: which of the processes at this address it is, from 0 on, and how many there are
    :param allow_pull: whether clients may have snapshots
    :param metrics: count and time the negatives
    :ivar send_budget: bounds the memory of answers
    """

    def __init__(
        self,
        datasets: Datasets,
        publisher: Publisher,
        limits: Limits,
        scheduler: Scheduler,
        worker: tuple[int, int],
        *,
        allow_pull: bool = False,
        metrics: ServerMetrics = NO_METRICS,
    ) -> None:
        self._metrics = metrics
        self._allow_pull = allow_pull
        self._datasets = datasets
        self._publisher = publisher
        self._limits = limits
        self._scheduler = scheduler
        self._worker, self._num_workers = worker
        self.send_budget = SendBudget(limits.max_ahead_bytes)
        self._warnings = OperatorWarnings()
        self._samples = SampleStreams(
            datasets, limits, scheduler, self.send_budget, self._warnings, metrics
        )
        self._lookups = LookupStreams(datasets, limits, scheduler, self.send_budget)

        @lru_cache(_CONFIGURATIONS)
        def decode_small_config(data: bytes) -> SamplerConfig:
            return messages.decode_config(pb.SamplerConfig.FromString(data), limits)

        self._decode_small_config = decode_small_config

    def sample(
        self, stream: ServerStream[pb.SampleRequest]
    ) -> AsyncGenerator[pb.SampleResponse | bytes, None]:
        """Answer a ``Sample`` stream."""
        return self._samples.answer(stream)

    async def sample_epoch(
        self, stream: ServerStream[pb.SampleEpochRequest]
    ) -> AsyncGenerator[pb.SampleEpochResponse | bytes, None]:
        """Answer ``SampleEpoch``; further messages are made while the client takes the last one."""
        request = await stream.read_only()
        factory = self._find(request.dataset, request.expected_fingerprint)
        with self._datasets.in_use(request.dataset), self._budget() as budget:
            epoch = self._open_epoch_again(factory, request)
            if epoch is None:
                epoch = await self._in_thread(self._open_epoch, factory, request)
            self._warnings.warn_of_leakage(
                request.dataset, factory, epoch.sampler.config.filter_splits, epochs=True
            )
            num_epochs = request.num_epochs or 1
            name = request.dataset
            del request  # which may be large
            yield pb.SampleEpochResponse(
                configured=pb.EpochConfigured(
                    fingerprint=factory.fingerprint,
                    sampler=messages.encode_config(epoch.sampler.config),
                    num_positives=epoch.num_positives,
                    num_batches=len(epoch),
                )
            )
            config = epoch.sampler.config
            epoch_messages = EpochMessages(
                factory,
                epoch,
                self._scheduler,
                self.send_budget,
                budget,
                self._limits.max_stream_seconds,
                num_epochs,
                self._metrics.draws(
                    name, config.kind, config.num_negs_per_pos, is_masked=config.masked
                ),
            )
            async with aclosing(epoch_messages.all()) as answers:
                async for answer in answers:
                    await stream.spend(epoch_messages.num_negatives)
                    yield answer

    def _open_epoch(self, factory: TriplesFactory, request: pb.SampleEpochRequest) -> Epoch:
        return factory.epoch(
            messages.decode_config(request.sampler, self._limits),
            messages.decode_epoch(request, self._limits),
            number=request.epoch,
            start=request.start,
        )

    def _open_epoch_again(
        self, factory: TriplesFactory, request: pb.SampleEpochRequest
    ) -> Epoch | None:
        """Open an epoch without a switch to a thread, which costs more, if that takes no time."""
        if request.ByteSize() > _SMALL_REQUEST_BYTES:
            return None
        return factory.epoch_again(
            self._decode_small_config(request.sampler.SerializeToString()),
            messages.decode_epoch(request, self._limits),
            number=request.epoch,
            start=request.start,
        )

    def contains(
        self, stream: ServerStream[pb.ContainsRequest]
    ) -> AsyncGenerator[pb.ContainsResponse | bytes, None]:
        """Answer a ``Contains`` stream."""
        return self._lookups.contains(stream)

    def known(
        self, stream: ServerStream[pb.KnownRequest]
    ) -> AsyncGenerator[pb.KnownResponse | bytes, None]:
        """Answer a ``Known`` stream."""
        return self._lookups.known(stream)

    def get_server(self, _: pb.GetServerRequest) -> pb.GetServerResponse:
        """Answer ``GetServer``."""
        return pb.GetServerResponse(
            version=_VERSION,
            algorithm_versions=[ALGORITHM_VERSION],
            limits=messages.encode_limits(self._limits),
            worker=self._worker,
            num_workers=self._num_workers,
        )

    async def list_datasets(self, _: pb.ListDatasetsRequest) -> AsyncGenerator[bytes, None]:
        """Answer ``ListDatasets``."""
        sees = CALLER.get().sees
        datasets = iter([each for each in self._datasets.items() if sees(each[0])])
        runs = iter(lambda: list(islice(datasets, dataset_messages.DATASETS_PER_MESSAGE)), [])
        async with aclosing(self._pieces(runs, dataset_messages.encode_datasets)) as pieces:
            async for piece in pieces:
                yield piece

    def get_dataset(self, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        """Answer ``GetDataset``."""
        factory = self._find(request.dataset)
        return pb.GetDatasetResponse(
            dataset=dataset_messages.encode_dataset(request.dataset, factory),
            limits=messages.encode_limits(self._limits),
        )

    async def get_relation_statistics(
        self, request: pb.GetRelationStatisticsRequest
    ) -> AsyncGenerator[bytes, None]:
        """Answer ``GetRelationStatistics``."""
        factory = self._find(request.dataset, request.expected_fingerprint)
        counts = await self._in_thread(lambda: factory.relation_counts)
        firsts = iter(range(0, factory.num_relations, dataset_messages.RELATIONS_PER_MESSAGE))
        make = partial(dataset_messages.encode_statistics, counts)
        async with aclosing(self._pieces(firsts, make)) as pieces:
            async for piece in pieces:
                yield piece

    async def get_vocabulary(self, request: pb.GetVocabularyRequest) -> AsyncGenerator[bytes, None]:
        """Answer ``GetVocabulary``."""
        factory = self._find(request.dataset, request.expected_fingerprint)
        for kind, vocabulary in (
            (pb.GetVocabularyResponse.KIND_ENTITY, factory.entities),
            (pb.GetVocabularyResponse.KIND_RELATION, factory.relations),
        ):
            if vocabulary is None:
                continue
            labels = dataset_messages.LabelRuns(kind, vocabulary)
            async with aclosing(self._pieces(labels, dataset_messages.LabelRuns.message)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _pieces(
        self, items: Iterator[_Item], make: Callable[[_Item], bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Encode the messages of a list, each in a thread, once the client has taken the last one.

        :param items: contents of the messages
        :param make: encodes one of them, to about ``_PIECE_BYTES`` at most
        """
        flow = Flow()
        with self._budget() as budget:
            for item in items:
                await budget.reserve(_PIECE_BYTES)
                piece = await self._scheduler.run(flow, _PIECE_WORK, make, item)
                budget.begin_sending(_PIECE_BYTES)
                yield piece
                budget.end_sending()

    async def get_snapshot(
        self, request: pb.GetSnapshotRequest
    ) -> AsyncGenerator[pb.GetSnapshotResponse | bytes, None]:
        """Answer ``GetSnapshot``."""
        name = request.dataset
        factory = self._find(name, request.expected_fingerprint)
        place = snapshot_messages.snapshot_place(name, factory, is_allowed=self._allow_pull)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.max_stream_seconds
        with self._datasets.in_use(name), self._budget() as budget:
            files = await self._in_thread(snapshot_messages.open_files, name, place)
            is_same = request.manifest_sha256 == place.manifest_sha256
            left = snapshot_messages.pieces(request, files) if is_same else iter(())
            yield pb.GetSnapshotResponse(
                manifest=pb.SnapshotManifest(json=files.manifest, folder=str(place.path))
            )
            for piece in left:
                # Ended early, a stream is opened again by the client, on any replica.
                if loop.time() > deadline:
                    return
                await budget.reserve(snapshot_messages.PIECE_BYTES)
                try:
                    message = await self._in_thread(snapshot_messages.encode_piece, files, piece)
                except MalformedSnapshot as error:
                    raise snapshot_messages.unusable(name, error) from error
                budget.begin_sending(snapshot_messages.PIECE_BYTES)
                yield message
                budget.end_sending()

    async def publish(
        self, stream: ServerStream[pb.PublishRequest]
    ) -> AsyncGenerator[pb.PublishResponse, None]:
        """Answer a ``Publish`` stream."""
        with auditing_refusals("publish_refused", "publishing a graph"):
            first = await stream.read()
            if first is None:
                return
            expect(first.WhichOneof("message"), "announcement")
            announcement = publish_messages.decode_announcement(first.announcement)
            note_dataset(announcement.name)
            stream.caller.check_dataset(announcement.name)
            is_mine = False
            while not self._publisher.is_served(announcement):
                publication = self._publisher.join(announcement, stream.caller)
                if not publication.has_uploader:
                    is_mine = True
                    with self._publisher.uploading(publication, stream) as upload:
                        yield pb.PublishResponse(
                            upload=pb.PublishUpload(
                                max_triples_per_chunk=self._limits.max_triples_per_message
                            )
                        )
                        stream.idle_timeout = self._limits.upload_idle_timeout
                        while (expected := upload.expected) is not None:
                            request = await stream.read() or pb.PublishRequest()
                            expect(request.WhichOneof("message"), expected)
                            await self._in_thread(
                                publish_messages.add_part, upload, request, self._limits
                            )
                            self._publisher.note_arrival(publication)
                            yield publish_messages.encode_progress(publication, is_mine)
                else:
                    yield publish_messages.encode_progress(publication, is_mine)
                await publication.wait(_PROGRESS_SECONDS, is_mine)
            yield pb.PublishResponse(
                published=pb.Published(
                    dataset=dataset_messages.encode_dataset(
                        announcement.name, self._datasets[announcement.name]
                    ),
                    limits=messages.encode_limits(self._limits),
                )
            )

    def _find(self, name: str, expected_fingerprint: str = "") -> TriplesFactory:
        return find_dataset(self._datasets, name, expected_fingerprint)

    def _budget(self) -> BudgetShare:
        return self.send_budget.open(CALLER.get())

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await self._scheduler.run_blocking(function, *arguments)
