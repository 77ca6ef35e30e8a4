"""The RPCs: validate, call the engine, encode; nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.ahead import Ahead
from negserve_server.admission.stream import ServerStream
from negserve_server.admission.turns import Account, Turns
from negserve_server.config.limits import Limits, check_limit
from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.index import FilterIndex
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publication import Publication
from negserve_server.publishing.publications import Publications
from negserve_server.publishing.upload import Upload
from negserve_server.sampling import (
    ALGORITHM_VERSION,
    SPLITS,
    CorruptedBatch,
    RelationStatistics,
    Sampler,
)
from negserve_server.sampling.slices import join_batches, slices_of, work_of
from negserve_server.service import messages
from negserve_server.service.epoch_messages import EpochMessages
from negserve_server.service.first_positives import FirstPositives
from negserve_server.service.remarks import Remarks

_T = TypeVar("_T")
_Item = TypeVar("_Item")

#: Which is read from the disk.
_VERSION = version("negserve")
#: Up to so many negatives (some 0.1 ms) a hop to another thread costs more than the work.
_SHORT_WORK = 10_000
_LABEL_BYTES_PER_MESSAGE = 256 * 1024
_LABELS_PER_MESSAGE = 8192
#: 24 bytes each.
_RELATIONS_PER_MESSAGE = 8192
#: Some 500 bytes each.
_DATASETS_PER_MESSAGE = 32
#: Largest answer of a list, about.
_PIECE_BYTES = 256 * 1024
#: How much work a piece of a list is, as a number of negatives.
_PIECE_WORK = 1 << 15
#: A client that has to wait for a graph hears that often that it is on its way.
_SIGN_OF_LIFE_SECONDS = 0.5
_STAGE = pb.PublishProgress.Stage


class SamplerServicer:
    """Answers the RPCs of ``negserve.v1.SamplerService``.

    :param datasets: the graphs
    :param publications: those that clients send
    :param limits: what may be asked for
    :param turns: whose work is done next
    """

    def __init__(
        self, datasets: Datasets, publications: Publications, limits: Limits, turns: Turns
    ) -> None:
        self._datasets = datasets
        self._publications = publications
        self._limits = limits
        self._turns = turns
        self._ahead = Ahead(limits.max_ahead_bytes)
        self._remarks = Remarks()

    async def sample(
        self, stream: ServerStream[pb.SampleRequest]
    ) -> AsyncGenerator[pb.SampleResponse | bytes, None]:
        """Answer a ``Sample`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "configuration")
        configuration = first.configuration
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        name = configuration.dataset
        with self._datasets.in_use(name), self._ahead.open() as share:
            sampler = await self._in_thread(self._configure, factory, configuration.sampler)
            del first, configuration  # which may be large
            yield pb.SampleResponse(
                configured=pb.SampleConfigured(
                    fingerprint=factory.fingerprint, sampler=messages.encode_config(sampler.config)
                )
            )
            self._remarks.of_leakage(name, factory, sampler.config.filter_splits, epochs=False)
            first_positives = FirstPositives(name, factory)
            account, answered = Account(), time.monotonic()
            k = sampler.config.num_negs_per_pos
            while (request := await stream.read()) is not None:
                account.note_pause(time.monotonic() - answered)
                _expect(request.WhichOneof("message"), "positives")
                count = min(messages.count_ids(request.positives.triples.heads), self._max_triples)
                size = messages.batch_bytes(sampler, count)
                await share.take(size)
                work = work_of(count, k)
                steps = self._corrupt(sampler, request.positives, first_positives)
                if work <= _SHORT_WORK:
                    answer = await self._turns.call_here(account, work, _at_once, steps)
                else:
                    answer = await self._turns.steps(account, work, steps)
                del request
                share.begin_sending(size)
                yield answer
                share.end_sending()
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
            batches.append(sampler.sample(positives[part], request.position + part.start))
        first_positives.add(positives)
        answer = pb.SampleResponse()
        messages.encode_batch(
            join_batches(batches), answer.batch
        )  # in place: a message is copied into another
        if first_positives.are_due and (text := first_positives.judge()):
            self._remarks.of_unknown_positives(first_positives.factory, text)
            answer.notices.add(kind=pb.Notice.KIND_UNKNOWN_POSITIVES, text=text)
        return answer.SerializeToString()

    async def sample_epoch(
        self, request: pb.SampleEpochRequest
    ) -> AsyncGenerator[pb.SampleEpochResponse | bytes, None]:
        """Answer ``SampleEpoch``; further messages are made while the client takes the last one."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
        with self._datasets.in_use(request.dataset), self._ahead.open() as share:
            epoch = await self._in_thread(self._open_epoch, factory, request)
            self._remarks.of_leakage(
                request.dataset, factory, epoch.sampler.config.filter_splits, epochs=True
            )
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
                factory, epoch, self._turns, self._ahead, share, self._limits.max_stream_seconds
            )
            async with aclosing(epoch_messages.all()) as answers:
                async for answer in answers:
                    yield answer

    def _open_epoch(self, factory: TriplesFactory, request: pb.SampleEpochRequest) -> Epoch:
        return factory.epoch(
            messages.decode_config(request.sampler, self._limits),
            messages.decode_epoch(request, self._limits),
        )

    async def contains(
        self, stream: ServerStream[pb.ContainsRequest]
    ) -> AsyncGenerator[pb.ContainsResponse | bytes, None]:
        """Answer a ``Contains`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "configuration")
        configuration = first.configuration
        factory = self._datasets.find(configuration.dataset, configuration.expected_fingerprint)
        splits = messages.decode_splits(configuration.splits, "splits")
        with self._datasets.in_use(configuration.dataset), self._ahead.open() as share:
            index = await self._in_thread(factory.filter_index, splits)
            account = Account()
            while (request := await stream.read()) is not None:
                _expect(request.WhichOneof("message"), "triples")
                count = min(messages.count_ids(request.triples.heads), self._max_triples)
                size = count // 8 + 64
                await share.take(size)
                answer = await self._turns.steps(
                    account, work_of(count, 0), self._look_up(index, request.triples)
                )
                del request
                share.begin_sending(size)
                yield answer
                share.end_sending()

    def _look_up(self, index: FilterIndex, message: pb.Triples) -> Generator[None, None, bytes]:
        """Make the answer to triples, in steps."""
        triples = messages.decode_triples(message, self._limits)
        found: list[NDArray[np.bool_]] = []
        for part in slices_of(len(triples), 0):
            if found:
                yield
            found.append(index.contains(triples[part]))
        known = np.concatenate(found)
        return pb.ContainsResponse(
            num_triples=len(known), known=messages.encode_flags(known)
        ).SerializeToString()

    @property
    def _max_triples(self) -> int:
        return self._limits.max_triples_per_message

    def get_server(self, _: pb.GetServerRequest) -> pb.GetServerResponse:
        """Answer ``GetServer``."""
        return pb.GetServerResponse(
            version=_VERSION,
            algorithm_versions=[ALGORITHM_VERSION],
            limits=messages.encode_limits(self._limits),
        )

    async def list_datasets(self, _: pb.ListDatasetsRequest) -> AsyncGenerator[bytes, None]:
        """Answer ``ListDatasets``."""
        datasets = iter(list(self._datasets.items()))
        runs = iter(lambda: list(islice(datasets, _DATASETS_PER_MESSAGE)), [])
        async with aclosing(self._pieces(runs, _described)) as pieces:
            async for piece in pieces:
                yield piece

    def get_dataset(self, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        """Answer ``GetDataset``."""
        factory = self._datasets.find(request.dataset)
        return pb.GetDatasetResponse(
            dataset=_describe(request.dataset, factory), limits=messages.encode_limits(self._limits)
        )

    async def get_relation_statistics(
        self, request: pb.GetRelationStatisticsRequest
    ) -> AsyncGenerator[bytes, None]:
        """Answer ``GetRelationStatistics``."""
        factory = self._datasets.find(request.dataset, request.expected_fingerprint)
        statistics = await self._in_thread(lambda: factory.relation_statistics)
        firsts = iter(range(0, factory.num_relations, _RELATIONS_PER_MESSAGE))
        make = partial(_statistics, statistics)
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
            labels = _Labels(kind, vocabulary)
            async with aclosing(self._pieces(labels, _Labels.message)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _pieces(
        self, items: Iterator[_Item], make: Callable[[_Item], bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Make the pieces of a list, each in a thread, once its client has taken the one before.

        :param items: what each is made of
        :param make: gives a message of about ``_PIECE_BYTES`` at most
        """
        account = Account()
        with self._ahead.open() as share:
            for item in items:
                await share.take(_PIECE_BYTES)
                piece = await self._turns.call(account, _PIECE_WORK, make, item)
                share.begin_sending(_PIECE_BYTES)
                yield piece
                share.end_sending()

    async def publish(
        self, stream: ServerStream[pb.PublishRequest]
    ) -> AsyncGenerator[pb.PublishResponse, None]:
        """Answer a ``Publish`` stream."""
        first = await stream.read()
        if first is None:
            return
        _expect(first.WhichOneof("message"), "announcement")
        announcement = messages.decode_announcement(first.announcement)
        is_mine = False
        while not self._publications.is_served(announcement):
            publication = self._publications.join(announcement)
            if not publication.has_uploader:
                is_mine = True
                with self._publications.uploading(publication, stream) as upload:
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
                        self._publications.note_arrival(publication)
                        yield _progress(publication, is_mine)
            else:
                yield _progress(publication, is_mine)
            await publication.wait(_SIGN_OF_LIFE_SECONDS, is_mine)
        yield pb.PublishResponse(
            published=pb.Published(
                dataset=_describe(announcement.name, self._datasets[announcement.name]),
                limits=messages.encode_limits(self._limits),
            )
        )

    def _take(self, upload: Upload, request: pb.PublishRequest) -> None:
        if request.HasField("chunk"):
            upload.add(*messages.decode_chunk(request.chunk, self._limits))
        elif request.HasField("type_constraints"):
            upload.add_type_constraints(
                *messages.decode_type_constraints(request.type_constraints, self._limits)
            )
        else:
            upload.add_labels(*messages.decode_labels(request.labels))

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await self._turns.call_aside(function, *arguments)


class _Labels:
    """The labels of a vocabulary, message by message; an iterator over itself."""

    def __init__(
        self, kind: pb.GetVocabularyResponse.Kind.ValueType, vocabulary: Vocabulary
    ) -> None:
        self._kind = kind
        self._vocabulary = vocabulary
        self._first = 0

    def __iter__(self) -> Iterator[_Labels]:
        return self

    def __next__(self) -> _Labels:
        if self._first == len(self._vocabulary):
            raise StopIteration
        return self

    def message(self) -> bytes:
        """Make the next message."""
        message = pb.GetVocabularyResponse(kind=self._kind, first_id=self._first)
        size = 0
        for label in self._vocabulary.labels(self._first, self._first + _LABELS_PER_MESSAGE):
            message.labels.append(label)
            size += len(label) + 2
            if size > _LABEL_BYTES_PER_MESSAGE:
                break
        self._first += len(message.labels)
        return message.SerializeToString()


def _at_once(steps: Generator[None, None, _T]) -> _T:
    """Do all steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _statistics(statistics: RelationStatistics, first: int) -> bytes:
    """Make the message about a run of relations."""
    run = slice(first, first + _RELATIONS_PER_MESSAGE)
    some = RelationStatistics(
        statistics.num_triples[run], statistics.num_heads[run], statistics.num_tails[run]
    )
    return pb.GetRelationStatisticsResponse(
        tails_per_head=some.tails_per_head.tolist(),
        heads_per_tail=some.heads_per_tail.tolist(),
        head_probability=some.head_probability.tolist(),
        first_id=first,
    ).SerializeToString()


def _described(datasets: list[tuple[str, TriplesFactory]]) -> bytes:
    """Make the message about some datasets."""
    return pb.ListDatasetsResponse(
        datasets=[_describe(*each) for each in datasets]
    ).SerializeToString()


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
            expected=due,
        )


def _describe(name: str, factory: TriplesFactory) -> pb.Dataset:
    return pb.Dataset(
        name=name,
        fingerprint=factory.fingerprint,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        splits=[
            pb.SplitSummary(
                split=messages.SPLIT_VALUES[split],  # type: ignore[arg-type]
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
