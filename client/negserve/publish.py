"""Publishing a graph: what is said, and over which connections."""

from __future__ import annotations

import logging
import queue
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from negserve import wire
from negserve.backoff import tries
from negserve.connection import Connection
from negserve.errors import ServiceError, StalledError, UnavailableError
from negserve.mapped_graph import MappedGraph
from negserve.v1 import sampler_pb2 as pb

logger = logging.getLogger(__name__)

#: A chunk is half a megabyte or so: even over a slow network it is there before patience ends.
_TRIPLES_PER_CHUNK = 2**16
#: Exchanges that break after they got somewhere; then it is no accident any more.
_MOST_BREAKS = 5

Stage = Literal["waiting", "uploading", "building"]
_STAGES: dict[int, Stage] = {
    pb.PublishProgress.STAGE_WAITING: "waiting",
    pb.PublishProgress.STAGE_UPLOADING: "uploading",
    pb.PublishProgress.STAGE_BUILDING: "building",
}


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """How far a publication is.

    :ivar stage: ``waiting`` for another client that uploads the same graph, ``uploading``, or
        ``building`` on the server
    :ivar num_received: triples that the server has, of all splits together
    :ivar num_triples: triples of the graph, of all splits together
    """

    stage: Stage
    num_received: int
    num_triples: int


class PublishDialogue:
    """What a client says on one ``Publish`` stream; knows of no connection.

    :ivar is_published: whether the server said that the graph is there
    :ivar has_progressed: whether it said anything
    """

    def __init__(self, name: str, graph: MappedGraph) -> None:
        self._name = name
        self._graph = graph
        self.is_published = False
        self.has_progressed = False

    def announcement(self) -> pb.PublishRequest:
        """Give the first message."""
        return pb.PublishRequest(
            announcement=pb.PublishAnnouncement(
                name=self._name,
                fingerprint=self._graph.fingerprint,
                num_entities=self._graph.num_entities,
                num_relations=self._graph.num_relations,
                splits=[
                    pb.AnnouncedSplit(split=wire.SPLITS[split], num_triples=len(triples))
                    for split, triples in self._graph.splits.items()
                ],
            )
        )

    def hear(
        self, response: pb.PublishResponse
    ) -> tuple[Iterator[pb.PublishRequest], PublishProgress | None]:
        """Take an answer; give what has to be sent now, made while it is sent, and progress."""
        self.has_progressed = True
        self.is_published = response.HasField("published")
        to_send: Iterator[pb.PublishRequest] = iter(())
        if response.HasField("upload"):
            to_send = self._chunks(response.upload.max_triples_per_chunk)
        progress = response.progress
        stage = _STAGES.get(progress.stage)
        if stage is None:
            return to_send, None
        return to_send, PublishProgress(stage, progress.num_received, progress.num_triples)

    def _chunks(self, limit: int) -> Iterator[pb.PublishRequest]:
        step = min(_TRIPLES_PER_CHUNK, limit)
        for split, triples in self._graph.splits.items():
            for begin in range(0, len(triples), step):
                encoded = wire.encode_triples(
                    triples[begin : begin + step],
                    self._graph.num_entities,
                    self._graph.num_relations,
                )
                checksum = 0
                for column in (encoded.heads, encoded.relations, encoded.tails):
                    checksum = zlib.crc32(column.data, checksum)
                yield pb.PublishRequest(
                    chunk=pb.PublishChunk(
                        split=wire.SPLITS[split],
                        first_row=begin,
                        triples=encoded,
                        crc32=checksum,
                    )
                )


def publish(
    connection: Connection,
    name: str,
    graph: MappedGraph,
    on_progress: Callable[[PublishProgress], object] | None = None,
) -> None:
    """Publish a graph on all replicas of a connection.

    :raises NegserveError: typed by what the server said
    """
    if len(connection.targets) == 1:
        _publish_on_one(connection, name, graph, on_progress)
        return
    lost: list[ServiceError] = []
    for target in connection.targets:
        replica = Connection((target,), connection.timeout, connection.patience)
        try:
            _publish_on_one(replica, name, graph, on_progress)
        except (UnavailableError, StalledError) as error:
            lost.append(error)
        finally:
            replica.close()
    if len(lost) == len(connection.targets):
        raise lost[-1]
    for reason in lost:
        logger.warning("a replica did not get the dataset %s: %s", name, reason)


def _publish_on_one(
    connection: Connection,
    name: str,
    graph: MappedGraph,
    on_progress: Callable[[PublishProgress], object] | None,
) -> None:
    last_error: ServiceError | None = None
    for _ in range(_MOST_BREAKS):
        for _ in tries(connection.patience):
            dialogue = PublishDialogue(name, graph)
            target = connection.target
            try:
                _exchange(connection, dialogue, on_progress)
            except (UnavailableError, StalledError) as error:
                last_error = error
                connection.fail_over(target)
            else:
                return
            if dialogue.has_progressed:
                break  # patience begins anew
        else:
            break
    assert last_error is not None
    raise last_error


def _exchange(
    connection: Connection,
    dialogue: PublishDialogue,
    on_progress: Callable[[PublishProgress], object] | None,
) -> None:
    outbox: queue.SimpleQueue[Iterable[pb.PublishRequest] | None] = queue.SimpleQueue()
    outbox.put([dialogue.announcement()])
    call = connection.stub().Publish(
        request for requests in iter(outbox.get, None) for request in requests
    )
    try:
        for response in connection.messages(call):
            to_send, progress = dialogue.hear(response)
            outbox.put(to_send)
            if progress is not None and on_progress is not None:
                on_progress(progress)
    finally:
        outbox.put(None)  # else a thread of grpc waits for requests for ever
    if not dialogue.is_published:
        raise UnavailableError(f"{connection.target}: the stream was ended")
