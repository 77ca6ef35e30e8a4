"""Publishing a graph: its messages, and its upload to all replicas."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

from negserve._calls.dataset import RemoteDataset
from negserve._graph.mapped_graph import MappedGraph
from negserve._graph.type_pairs import TypePairs
from negserve._protocol import messages
from negserve._protocol.descriptions import check_dataset, check_limits
from negserve._protocol.messages import check_equal, check_member, check_range, invalid
from negserve._transport.statuses import ended
from negserve._transport.transport import RetryBudget, Transport
from negserve.errors import (
    FingerprintMismatchError,
    InvalidAnswerError,
    ServiceError,
    StalledError,
    StorageFailedError,
    UnavailableError,
)
from negserve.types.warning_categories import SwappedColumnsWarning, warn
from negserve.v1 import sampler_pb2 as pb

_Published = TypeVar("_Published", bound=RemoteDataset[Any, Any])

_Kind = pb.GetVocabularyResponse

logger = logging.getLogger(__name__)

#: A chunk is about half a megabyte: a slow network carries it before patience ends.
_TRIPLES_PER_CHUNK = 2**16
#: Messages sent ahead of their answers: about 12 MB, within the limits of servers.
_CHUNKS_AHEAD = 16
_LABEL_BYTES_PER_MESSAGE = 2**18
#: Uploads, each after the one before was cut off, before patience is no longer renewed. A stream
#: that is cut off while another client uploads, or while the server builds, does not count.
_MOST_UPLOADS = 5

Stage = Literal["waiting", "uploading", "building"]
_STAGES: dict[int, Stage] = {
    pb.PublishProgress.STAGE_WAITING: "waiting",
    pb.PublishProgress.STAGE_UPLOADING: "uploading",
    pb.PublishProgress.STAGE_BUILDING: "building",
}


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """Progress of a publication.

    :ivar stage: ``waiting`` for another client that uploads the same graph, ``uploading``, or
        ``building`` on the server
    :ivar num_received: triples that the server has, of all splits together
    :ivar num_triples: triples of the graph, of all splits together
    """

    stage: Stage
    num_received: int
    num_triples: int


class PublishDialogue:
    """The client's messages on ``Publish`` streams, as many as it takes. Does no I/O.

    :ivar is_published: whether the server has confirmed that it has the graph
    """

    def __init__(self, name: str, graph: MappedGraph) -> None:
        self._name = name
        self._graph = graph
        self._num_uploads = 0
        self._is_asked = False
        self._coming: Iterator[pb.PublishRequest] = iter(())
        self._num_unanswered = 0
        self.is_published = False

    @property
    def is_getting_on(self) -> bool:
        """Tell whether an answer renews patience."""
        return self._num_uploads <= _MOST_UPLOADS

    def announcement(self) -> pb.PublishRequest:
        """Encode the first message of a stream."""
        self._is_asked = False
        types, labels = self._graph.type_constraints, self._graph.labels
        return pb.PublishRequest(
            announcement=pb.PublishAnnouncement(
                name=self._name,
                fingerprint=self._graph.fingerprint,
                num_entities=self._graph.num_entities,
                num_relations=self._graph.num_relations,
                splits=[
                    pb.AnnouncedSplit(split=messages.SPLITS[split], num_triples=len(triples))
                    for split, triples in self._graph.splits.items()
                ],
                type_constraints=(
                    None
                    if types is None
                    else pb.AnnouncedTypeConstraints(
                        num_heads=len(types.heads), num_tails=len(types.tails)
                    )
                ),
                labels=None if labels is None else pb.AnnouncedLabels(num_bytes=labels.num_bytes),
            )
        )

    def hear(
        self, response: pb.PublishResponse
    ) -> tuple[Iterator[pb.PublishRequest], PublishProgress | None]:
        """Take an answer; return the messages to send, which are encoded on the way, and progress.

        :raises InvalidAnswerError: if the answer is invalid
        """
        member = check_member("message", response, "upload", "progress", "published")
        if self.is_published:
            raise invalid("message", member, "nothing after published")
        if member == "upload":
            limit = response.upload.max_triples_per_chunk
            check_range("upload.max_triples_per_chunk", limit, 1, 2**32 - 1)
            check_equal("upload, asked for before", self._is_asked, False)
            self._is_asked = True
            self._num_uploads += 1
            self._coming, self._num_unanswered = self._upload(limit), 0
            return self._next_chunks(), None
        if member == "published":
            self._check_published(response.published)
            self.is_published = True
            return iter(()), None
        progress = self._progress(response.progress)
        self._num_unanswered = max(self._num_unanswered - 1, 0)
        return self._next_chunks() if self._is_asked else iter(()), progress

    def _next_chunks(self) -> Iterator[pb.PublishRequest]:
        """Return the chunks that may be sent now."""
        count = _CHUNKS_AHEAD - self._num_unanswered
        self._num_unanswered = _CHUNKS_AHEAD
        return islice(self._coming, count)

    def _check_published(self, published: pb.Published) -> None:
        fingerprint = published.dataset.fingerprint
        check_equal("published.dataset.fingerprint", fingerprint, self._graph.fingerprint)
        check_equal("published.dataset.name", published.dataset.name, self._name)
        check_dataset("published.dataset", published.dataset)
        check_limits("published.limits", published.limits)

    def _progress(self, progress: pb.PublishProgress) -> PublishProgress | None:
        """Decode progress; None for an unknown stage, from a newer server."""
        check_equal("progress.num_triples", progress.num_triples, self._graph.num_triples)
        check_range("progress.num_received", progress.num_received, 0, progress.num_triples)
        if progress.stage == pb.PublishProgress.STAGE_UNSPECIFIED:
            raise invalid("progress.stage", progress.stage, "a stage")
        if progress.stage == pb.PublishProgress.STAGE_UPLOADING and not self._is_asked:
            raise invalid("progress.stage", "UPLOADING", "another before the triples are asked for")
        stage = _STAGES.get(progress.stage)
        if stage is None:
            return None
        return PublishProgress(stage, progress.num_received, progress.num_triples)

    def _upload(self, limit: int) -> Iterator[pb.PublishRequest]:
        step = min(_TRIPLES_PER_CHUNK, limit)
        yield from self._chunks(step)
        if self._graph.type_constraints is not None:
            yield from self._type_constraints(self._graph.type_constraints, step)
        if self._graph.labels is not None:
            yield from _labels(_Kind.KIND_ENTITY, self._graph.labels.entities)
            yield from _labels(_Kind.KIND_RELATION, self._graph.labels.relations)

    def _chunks(self, step: int) -> Iterator[pb.PublishRequest]:
        for split, triples in self._graph.splits.items():
            for begin in range(0, len(triples), step):
                encoded = messages.encode_triples(
                    triples[begin : begin + step],
                    self._graph.num_entities,
                    self._graph.num_relations,
                )
                columns = encoded.heads, encoded.relations, encoded.tails
                yield pb.PublishRequest(
                    chunk=pb.PublishChunk(
                        split=messages.SPLITS[split],
                        first_row=begin,
                        triples=encoded,
                        crc32=_crc32(column.data for column in columns),
                    )
                )

    def _type_constraints(self, types: TypePairs, step: int) -> Iterator[pb.PublishRequest]:
        for slot, pairs in (("head", types.heads), ("tail", types.tails)):
            for begin in range(0, len(pairs), step):
                relations, entities = pairs[begin : begin + step].T
                columns = (
                    messages.encode_ids(relations, self._graph.num_relations),
                    messages.encode_ids(entities, self._graph.num_entities),
                )
                yield pb.PublishRequest(
                    type_constraints=pb.PublishTypeConstraints(
                        slot=messages.SLOTS[slot],
                        first_row=begin,
                        relations=columns[0],
                        entities=columns[1],
                        crc32=_crc32(column.data for column in columns),
                    )
                )


def _labels(kind: _Kind.Kind.ValueType, labels: Sequence[str]) -> Iterator[pb.PublishRequest]:
    begin = size = 0
    for end, label in enumerate(labels, start=1):
        size += len(label) + 2
        if size > _LABEL_BYTES_PER_MESSAGE or end == len(labels):
            run = labels[begin:end]
            yield pb.PublishRequest(
                labels=pb.PublishLabels(
                    kind=kind,
                    first_id=begin,
                    labels=run,
                    crc32=_crc32(each.encode() + b"\0" for each in run),
                )
            )
            begin, size = end, 0


def _crc32(pieces: Iterable[bytes]) -> int:
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


def check_columns(graph: MappedGraph) -> None:
    """Warn of triples whose columns look swapped.

    :raises SwappedColumnsWarning: where Python is told to raise it
    """
    if graph.doubt is not None:
        warn(
            f"triples may have swapped columns: {graph.doubt}. Columns are head, relation, tail; "
            f"some libraries have head, tail, relation. If these are right, ignore "
            f"negserve.SwappedColumnsWarning",
            SwappedColumnsWarning,
        )


async def publish(
    transport: Transport,
    name: str,
    graph: MappedGraph,
    on_progress: Callable[[PublishProgress], object] | None = None,
) -> None:
    """Publish a graph on all replicas.

    :raises NegserveError: as the server's status says
    """
    if len(transport.replicas.targets) == 1:
        await _publish_on_one(transport, PublishDialogue(name, graph), on_progress)
        return
    lost: list[ServiceError] = []
    for target in transport.replicas.targets:
        replica = transport.only(target)
        try:
            await _publish_on_one(replica, PublishDialogue(name, graph), on_progress)
        except (UnavailableError, StalledError, InvalidAnswerError, StorageFailedError) as error:
            lost.append(error)
        finally:
            await replica.close()
    if len(lost) == len(transport.replicas.targets):
        raise lost[-1]
    for reason in lost:
        logger.warning("a replica did not get the dataset %s: %s", name, reason)


async def _publish_on_one(
    transport: Transport,
    dialogue: PublishDialogue,
    on_progress: Callable[[PublishProgress], object] | None,
) -> None:
    async def converse(budget: RetryBudget) -> None:
        with transport.open("Publish") as call:
            call.send_all([dialogue.announcement()])
            while (response := await call.next(budget.limit())) is not None:
                with call.answering():
                    to_send, progress = dialogue.hear(response)
                call.send_all(to_send)
                if dialogue.is_getting_on:
                    budget.note_progress()
                if progress is not None and on_progress is not None:
                    on_progress(progress)
        if not dialogue.is_published:
            raise ended(call.target, "before the graph was published")

    await transport.retry(converse)


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """Publishes a graph again on a replica that has lost it. Picklable, with the graph.

    :ivar name: name of the dataset
    :ivar fingerprint: of the graph
    :ivar graph: a :class:`MappedGraph`, or an argument of :meth:`MappedGraph.of`
    :ivar options: further arguments of :meth:`MappedGraph.of`
    """

    name: str
    fingerprint: str
    graph: Any
    options: Mapping[str, Any]

    async def __call__(self, replica: Transport) -> None:
        """Publish the graph on a replica.

        :raises FingerprintMismatchError: if the graph has changed, or the name is taken
        :raises NegserveError: as the server's status says
        """
        graph = self.graph
        if not isinstance(graph, MappedGraph):
            graph = MappedGraph.of(graph, **self.options)
        _check_fingerprint(self.name, graph, self.fingerprint)
        await _publish_on_one(replica, PublishDialogue(self.name, graph), None)


def confirmed(published: _Published, graph: MappedGraph, restoration: Restoration) -> _Published:
    """Check that a dataset is the published graph, and let replicas that lose it get it again.

    :raises FingerprintMismatchError: if it is another graph
    """
    _check_fingerprint(published.name, graph, published.fingerprint)
    published.keep_restorable(restoration)
    return published


def _check_fingerprint(name: str, graph: MappedGraph, expected: str) -> None:
    if graph.fingerprint != expected:
        raise FingerprintMismatchError(
            f"dataset {name!r} has fingerprint {expected}, the graph at hand {graph.fingerprint}; "
            f"publish it by another name",
            reason="FINGERPRINT_MISMATCH",
            metadata={"value": graph.fingerprint, "limit": expected},
        )
