"""What one message and one server may be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from negserve.types.config import MAX_NUM_NEGS_PER_POS
from negserve_server.errors import InvalidInput
from negserve_server.tables import KEEP_SECONDS, default_table_bytes

#: Largest message that a server receives.
MAX_REQUEST_BYTES = 16 * 1024 * 1024
#: Most values in one, fields of fields included; those in ``bytes``, as ids are, do not count.
MAX_REQUEST_VALUES = 2**18
#: Seconds without a message after which a stream, or an upload, gives way to others that need its
#: place or room.
SILENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server. The defaults keep every answer below 4 MiB, gRPC's default limit.

    :ivar max_negatives_per_positive: largest k
    :ivar max_negatives_per_message: largest n * k of one message of positives; where log
        probabilities come along, which double the bytes, a negative counts twice
    :ivar max_triples_per_message: most triples in one message
    :ivar max_table_bytes: most bytes of the tables that configurations need, see
        :class:`negserve_server.tables.Tables`
    :ivar table_keep_seconds: how long one of those stays after its last stream
    :ivar max_streams: most open streams: ``Sample``, ``SampleEpoch``, ``Contains``, ``Publish``,
        and those of health and reflection; and as many calls of other methods
    :ivar max_streams_per_connection: most of those of one connection; all unix sockets count as one
    :ivar max_streams_per_token: most of those that bear one token
    :ivar max_unanswered_messages: most messages that a client may send on a stream ahead of the
        answers
    :ivar max_unanswered_bytes: most bytes of those; one message may always have
        ``MAX_REQUEST_BYTES``
    :ivar max_ahead_bytes: most bytes of answers that are made and not yet taken by their
        clients, of all streams together
    :ivar idle_timeout: seconds a client may leave an open stream without a message, or without
        taking one
    :ivar max_stream_seconds: age at which a ``SampleEpoch`` stream is ended in order, so that
        clients open it again and a balancer can move them
    :ivar upload_idle_timeout: as ``idle_timeout``, while other clients may wait for an upload
    :ivar max_publish_triples: most triples of all graphs that clients publish, together
    :ivar max_publish_ids: largest id space of those, entities and relations together
    :ivar max_publish_graphs: most of those
    :ivar publish_keep_seconds: how long one of those has to be idle before it gives way to another
        that needs the room
    """

    max_negatives_per_positive: int = 2**16
    max_negatives_per_message: int = 2**19
    max_triples_per_message: int = 2**18
    max_table_bytes: int = field(default_factory=default_table_bytes)
    table_keep_seconds: float = KEEP_SECONDS
    max_streams: int = 1024
    max_streams_per_connection: int = 512
    max_streams_per_token: int = 768
    max_unanswered_messages: int = 64
    max_unanswered_bytes: int = MAX_REQUEST_BYTES
    max_ahead_bytes: int = 64 * 1024 * 1024
    idle_timeout: float = 3600.0
    max_stream_seconds: float = 1800.0
    upload_idle_timeout: float = 30.0
    max_publish_triples: int = 2**24
    max_publish_ids: int = 2**24
    max_publish_graphs: int = 256
    publish_keep_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_negatives_per_positive <= MAX_NUM_NEGS_PER_POS:
            raise ValueError(
                f"max_negatives_per_positive={self.max_negatives_per_positive}: "
                f"give 1 to {MAX_NUM_NEGS_PER_POS}"
            )
        if self.max_negatives_per_message < self.max_negatives_per_positive:
            raise ValueError(
                f"max_negatives_per_message={self.max_negatives_per_message} is below "
                f"max_negatives_per_positive={self.max_negatives_per_positive}, so one positive "
                f"would not fit a message"
            )

    def negatives_per_message(self, log_q: bool) -> int:
        """Give the largest n * k of one message, with log probabilities or without."""
        return self.max_negatives_per_message // (2 if log_q else 1)

    def negatives_per_positive(self, log_q: bool) -> int:
        """Give the largest k, with log probabilities or without: one positive fits a message."""
        return min(self.max_negatives_per_positive, self.negatives_per_message(log_q))


def check_limit(field: str, value: int, limit: int, remedy: str) -> None:
    """Refuse what is over a limit.

    :raises InvalidInput: with the reason ``LIMIT_EXCEEDED``
    """
    if value > limit:
        raise InvalidInput(
            f"{field} is {value}, the limit is {limit}; {remedy}",
            reason="LIMIT_EXCEEDED",
            field=field,
            value=value,
            limit=limit,
        )
