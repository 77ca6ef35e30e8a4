"""Version and limits of a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What callers may ask of a server.

    :ivar max_negatives_per_positive: largest k
    :ivar max_negatives_per_message: largest batch times k of one message; where log
        probabilities come along, a negative counts twice
    :ivar max_triples_per_message: most triples in one message
    :ivar max_request_bytes: largest message that it receives
    :ivar max_unanswered_messages: how many messages of a stream may be sent ahead of the answers
    :ivar max_unanswered_bytes: how many bytes those may have together
    :ivar max_streams: most open streams of all callers
    :ivar max_streams_per_connection: of one connection
    :ivar max_streams_per_token: of one token
    :ivar idle_timeout_seconds: without a message, after which a stream is ended
    :ivar upload_idle_timeout_seconds: the same while a client uploads a graph
    :ivar max_stream_seconds: age at which an epoch's stream is ended in order
    :ivar max_publish_triples: most triples of all published graphs; 0 where none may be published
    :ivar max_publish_ids: most ids of those
    :ivar max_publish_graphs: most of those
    :ivar max_values_per_message: most values (fields, elements of repeated ones) of one message of
        more than 256 KiB
    """

    max_negatives_per_positive: int
    max_negatives_per_message: int
    max_triples_per_message: int
    max_request_bytes: int
    max_unanswered_messages: int
    max_unanswered_bytes: int
    max_streams: int
    max_streams_per_connection: int
    max_streams_per_token: int
    idle_timeout_seconds: float
    upload_idle_timeout_seconds: float
    max_stream_seconds: float
    max_publish_triples: int
    max_publish_ids: int
    max_publish_graphs: int
    max_values_per_message: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server is and takes.

    :ivar version: as in the CHANGELOG, ``MAJOR.MINOR.PATCH``
    :ivar algorithm_versions: versions of the sampling function that it knows, ascending; one of
        them, or 0 for the newest, is ``SamplerConfig.algorithm_version``
    :ivar limits: what callers may ask for
    :ivar worker: which of the processes that share the address answered, from 0 on
    :ivar num_workers: number of those processes
    """

    version: str
    algorithm_versions: tuple[int, ...]
    limits: ServerLimits
    worker: int = 0
    num_workers: int = 1
