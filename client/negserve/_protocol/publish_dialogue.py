"""The messages that publish a graph: what to send after which answer."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from negserve._protocol import messages
from negserve._protocol.descriptions import check_dataset, check_limits
from negserve._protocol.messages import check_equal, check_member, check_range, invalid
from negserve.types.answers.publish_progress import PublishProgress, Stage
from negserve.v1 import sampler_pb2 as pb

_Kind = pb.GetVocabularyResponse

#: A chunk is about half a megabyte: a slow network carries it before patience ends.
_TRIPLES_PER_CHUNK = 2**16
#: Messages sent ahead of their answers: about 12 MB, within the limits of servers.
_CHUNKS_AHEAD = 16
_LABEL_BYTES_PER_MESSAGE = 2**18
#: Uploads, each after the one before was cut off, before patience is no longer renewed. A stream
#: that is cut off while another client uploads, or while the server builds, does not count.
_MOST_UPLOADS = 5

_STAGES: dict[int, Stage] = {
    pb.PublishProgress.STAGE_WAITING: "waiting",
    pb.PublishProgress.STAGE_UPLOADING: "uploading",
    pb.PublishProgress.STAGE_BUILDING: "building",
}


class TypeConstraints(Protocol):
    """Distinct pairs of relation and allowed entity, uint32, shape (m, 2), by slot."""

    @property
    def heads(self) -> NDArray[np.uint32]:
        """Pairs of relation and allowed head."""

    @property
    def tails(self) -> NDArray[np.uint32]:
        """Pairs of relation and allowed tail."""


class Labels(Protocol):
    """Labels in the order of the ids, and their length in bytes of UTF-8."""

    @property
    def entities(self) -> Sequence[str]:
        """Label of each entity."""

    @property
    def relations(self) -> Sequence[str]:
        """Label of each relation."""

    @property
    def num_bytes(self) -> int:
        """Length of all labels together."""


class Graph(Protocol):
    """What is sent of a graph; :class:`negserve._graph.mapped_graph.MappedGraph` has it."""

    @property
    def splits(self) -> Mapping[str, NDArray[np.uint32]]:
        """Distinct triples by split, each of shape (n, 3)."""

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""

    @property
    def num_triples(self) -> int:
        """Number of distinct triples of all splits together."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of id space, triples and type constraints, 64 hexadecimal digits."""

    @property
    def type_constraints(self) -> TypeConstraints | None:
        """The entities that relations allow; None for a graph without them."""

    @property
    def labels(self) -> Labels | None:
        """Labels of entities and relations; None for a graph without them."""


class PublishDialogue:
    """The client's messages on ``Publish`` streams, as many as it takes. Does no I/O.

    :ivar is_published: whether the server has confirmed that it has the graph
    """

    def __init__(self, name: str, graph: Graph) -> None:
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

    def _type_constraints(self, types: TypeConstraints, step: int) -> Iterator[pb.PublishRequest]:
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
