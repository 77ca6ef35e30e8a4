"""The RPCs: validate, call the engine, encode; nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.types.corrupted_batch import CorruptedBatch, join_batches
from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.fair_queue import Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import SendBudget
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits, check_limit
from negserve_server.errors import InvalidInput, MalformedSnapshot
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.first_positives import FirstPositives
from negserve_server.index import FilterIndex
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publisher import Publisher
from negserve_server.sampling import ALGORITHM_VERSION, Sampler
from negserve_server.sampling.slices import slices_of, work_of
from negserve_server.service import (
    dataset_messages,
    known_messages,
    messages,
    publish_messages,
    snapshot_messages,
)
from negserve_server.service.epoch_messages import EpochMessages
from negserve_server.service.operator_warnings import OperatorWarnings

_T = TypeVar("_T")
_Item = TypeVar("_Item")

#: Read once, as it comes from the disk.
_VERSION = version("negserve")
#: Up to this many negatives (some 0.1 ms) a switch to a thread costs more than the work.
_SHORT_WORK = 10_000
#: Size of a request up to which it is decoded on the event loop.
_SMALL_REQUEST_BYTES = 1024
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
    ) -> None:
        self._allow_pull = allow_pull
        self._datasets = datasets
        self._publisher = publisher
        self._limits = limits
        self._scheduler = scheduler
        self._worker, self._num_workers = worker
        self._send_budget = SendBudget(limits.max_ahead_bytes)
        self._warnings = OperatorWarnings()

    async def sample(
        self, stream: ServerStream[pb.SampleRequest]
    ) -> AsyncGenerator[pb.SampleResponse | bytes, None]:
        """Answer a ``Sample`` stream."""
        configuration = await _read_configuration(stream)
        if configuration is None:
            return
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        name = configuration.dataset
        with self._datasets.in_use(name), self._send_budget.open() as budget:
            sampler = await self._in_thread(self._configure, factory, configuration.sampler)
            del configuration  # which may be large
            yield pb.SampleResponse(
                configured=pb.SampleConfigured(
                    fingerprint=factory.fingerprint, sampler=messages.encode_config(sampler.config)
                )
            )
            self._warnings.warn_of_leakage(
                name, factory, sampler.config.filter_splits, epochs=False
            )
            first_positives = FirstPositives(name, factory)
            flow, answered = Flow(), time.monotonic()
            k = sampler.config.num_negs_per_pos
            while (request := await stream.read()) is not None:
                flow.record_pause(time.monotonic() - answered)
                _expect(request.WhichOneof("message"), "positives")
                count = min(messages.count_ids(request.positives.triples.heads), self._max_triples)
                size = messages.batch_bytes(sampler, count)
                await budget.reserve(size)
                work = work_of(count, k)
                steps = self._corrupt(sampler, request.positives, first_positives)
                if work <= _SHORT_WORK:
                    answer = await self._scheduler.run_inline(flow, work, _at_once, steps)
                else:
                    answer = await self._scheduler.run_steps(flow, work, steps)
                del request
                budget.begin_sending(size)
                yield answer
                budget.end_sending()
                answered = time.monotonic()

    def _configure(self, factory: TriplesFactory, message: pb.SamplerConfig) -> Sampler:
        return factory.sampler(messages.decode_config(message, self._limits))

    def _corrupt(
        self, sampler: Sampler, request: pb.Positives, first_positives: FirstPositives
    ) -> Generator[None, None, bytes]:
        """Make the answer to positives, in steps."""
        positives = messages.decode_triples(request.triples, self._limits)
        k = sampler.config.num_negs_per_pos
        check_limit(
            "triples",
            len(positives),
            self._limits.negatives_per_message(sampler.config.log_q) // k,
            f"with {k} negatives each; split the batch over several messages",
        )
        batches: list[CorruptedBatch] = []
        for part in slices_of(len(positives), k):
            if batches:
                yield
            with messages.rows_after(part.start):
                batches.append(sampler.sample(positives[part], request.position + part.start))
        first_positives.add(positives)
        answer = pb.SampleResponse()
        messages.encode_batch(
            join_batches(batches), answer.batch
        )  # in place: a message is copied into another
        if first_positives.are_complete and (text := first_positives.check()):
            self._warnings.warn_of_unknown_positives(first_positives.factory, text)
            answer.notices.add(kind=pb.Notice.KIND_UNKNOWN_POSITIVES, text=text)
        return answer.SerializeToString()

    async def sample_epoch(
        self, request: pb.SampleEpochRequest
    ) -> AsyncGenerator[pb.SampleEpochResponse | bytes, None]:
        """Answer ``SampleEpoch``; further messages are made while the client takes the last one."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
        with self._datasets.in_use(request.dataset), self._send_budget.open() as budget:
            epoch = self._open_epoch_again(factory, request)
            if epoch is None:
                epoch = await self._in_thread(self._open_epoch, factory, request)
            self._warnings.warn_of_leakage(
                request.dataset, factory, epoch.sampler.config.filter_splits, epochs=True
            )
            num_epochs = request.num_epochs or 1
            del request  # which may be large
            yield pb.SampleEpochResponse(
                configured=pb.EpochConfigured(
                    fingerprint=factory.fingerprint,
                    sampler=messages.encode_config(epoch.sampler.config),
                    num_positives=epoch.num_positives,
                    num_batches=len(epoch),
                )
            )
            epoch_messages = EpochMessages(
                factory,
                epoch,
                self._scheduler,
                self._send_budget,
                budget,
                self._limits.max_stream_seconds,
                num_epochs,
            )
            async with aclosing(epoch_messages.all()) as answers:
                async for answer in answers:
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
            messages.decode_config(request.sampler, self._limits),
            messages.decode_epoch(request, self._limits),
            number=request.epoch,
            start=request.start,
        )

    async def contains(
        self, stream: ServerStream[pb.ContainsRequest]
    ) -> AsyncGenerator[pb.ContainsResponse | bytes, None]:
        """Answer a ``Contains`` stream."""
        configuration = await _read_configuration(stream)
        if configuration is None:
            return
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        splits = messages.decode_splits(configuration.splits, "splits")
        with self._datasets.in_use(configuration.dataset), self._send_budget.open() as budget:
            index = await self._in_thread(factory.filter_index, splits)
            flow = Flow()
            while (request := await stream.read()) is not None:
                _expect(request.WhichOneof("message"), "triples")
                count = min(messages.count_ids(request.triples.heads), self._max_triples)
                size = count // 8 + 64
                await budget.reserve(size)
                answer = await self._scheduler.run_steps(
                    flow, work_of(count, 0), self._look_up(index, request.triples)
                )
                del request
                budget.begin_sending(size)
                yield answer
                budget.end_sending()

    def _look_up(self, index: FilterIndex, message: pb.Triples) -> Generator[None, None, bytes]:
        """Make the answer to triples, in steps."""
        triples = messages.decode_triples(message, self._limits)
        found: list[NDArray[np.bool_]] = []
        for part in slices_of(len(triples), 0):
            if found:
                yield
            with messages.rows_after(part.start):
                found.append(index.contains(triples[part]))
        known = np.concatenate(found)
        return pb.ContainsResponse(
            num_triples=len(known), known=messages.encode_flags(known)
        ).SerializeToString()

    async def known(
        self, stream: ServerStream[pb.KnownRequest]
    ) -> AsyncGenerator[pb.KnownResponse | bytes, None]:
        """Answer a ``Known`` stream."""
        configuration = await _read_configuration(stream)
        if configuration is None:
            return
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        splits = messages.decode_splits(configuration.splits, "splits")
        slot = messages.look_up(messages.SLOTS, configuration.slot, "slot")
        with self._datasets.in_use(configuration.dataset), self._send_budget.open() as budget:
            index = await self._in_thread(factory.filter_index, splits)
            # It may have to be built, which can't be cut. The stream holds it until its end.
            pairs = await self._in_thread(index.by_slot, slot)
            flow = Flow()
            while (request := await stream.read()) is not None:
                _expect(request.WhichOneof("message"), "pairs")
                count = min(messages.count_ids(request.pairs.first), self._max_triples)
                answer = known_messages.KnownAnswer(index, pairs, slot)
                steps = answer.find(request.pairs, self._limits)
                await self._scheduler.run_steps(flow, work_of(count, 0), steps)
                del request
                for piece in answer.pieces():
                    await budget.reserve(piece.num_bytes)
                    message = await self._scheduler.run(flow, piece.work, answer.encode, piece)
                    budget.begin_sending(piece.num_bytes)
                    yield message
                    budget.end_sending()

    @property
    def _max_triples(self) -> int:
        return self._limits.max_triples_per_message

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
        datasets = iter(list(self._datasets.items()))
        runs = iter(lambda: list(islice(datasets, dataset_messages.DATASETS_PER_MESSAGE)), [])
        async with aclosing(self._pieces(runs, dataset_messages.encode_datasets)) as pieces:
            async for piece in pieces:
                yield piece

    def get_dataset(self, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        """Answer ``GetDataset``."""
        factory = self._datasets.find(request.dataset)
        return pb.GetDatasetResponse(
            dataset=dataset_messages.encode_dataset(request.dataset, factory),
            limits=messages.encode_limits(self._limits),
        )

    async def get_relation_statistics(
        self, request: pb.GetRelationStatisticsRequest
    ) -> AsyncGenerator[bytes, None]:
        """Answer ``GetRelationStatistics``."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
        counts = await self._in_thread(lambda: factory.relation_counts)
        firsts = iter(range(0, factory.num_relations, dataset_messages.RELATIONS_PER_MESSAGE))
        make = partial(dataset_messages.encode_statistics, counts)
        async with aclosing(self._pieces(firsts, make)) as pieces:
            async for piece in pieces:
                yield piece

    async def get_vocabulary(self, request: pb.GetVocabularyRequest) -> AsyncGenerator[bytes, None]:
        """Answer ``GetVocabulary``."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
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
        with self._send_budget.open() as budget:
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
        factory = self._datasets.find(name, request.expected_fingerprint)
        place = snapshot_messages.snapshot_place(name, factory, is_allowed=self._allow_pull)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.max_stream_seconds
        with self._datasets.in_use(name), self._send_budget.open() as budget:
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
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "announcement")
        announcement = publish_messages.decode_announcement(first.announcement)
        is_mine = False
        while not self._publisher.is_served(announcement):
            publication = self._publisher.join(announcement)
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
                        _expect(request.WhichOneof("message"), expected)
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

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await self._scheduler.run_blocking(function, *arguments)


def _at_once(steps: Generator[None, None, _T]) -> _T:
    """Run all steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def _read_configuration(stream: ServerStream[Any]) -> Any:
    """Read the configuration that a stream begins with; None if it ends without a message."""
    first = await stream.read()
    if first is None:
        return None
    _expect(first.WhichOneof("message"), "configuration")
    return first.configuration


def _expect(found: str | None, expected: str) -> None:
    if found != expected:
        raise InvalidInput(
            f"expected a message with {expected}, got {found or 'nothing'}: a stream begins with "
            f"one configuration or announcement, and has no second one",
            reason="STREAM_OUT_OF_ORDER",
            value=found or "nothing",
            expected=expected,
        )
