"""Limits: how much one message, one caller and all callers may ask of a server."""

from __future__ import annotations

from dataclasses import dataclass

from negserve.types.config import MAX_NUM_NEGS_PER_POS
from negserve_server.config.option import check_bounds, option
from negserve_server.errors import InvalidInput
from negserve_server.tables import KEEP_SECONDS, default_table_bytes

#: Largest message that a server receives.
MAX_REQUEST_BYTES = 16 * 1024 * 1024
#: Most values in one message, nested fields included; elements of ``bytes``, as ids are, do not
#: count.
MAX_REQUEST_VALUES = 2**18
#: Seconds without a message after which a stream, or an upload, may be ended for another caller
#: that reached a limit.
SILENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server. The defaults keep every answer below 4 MiB, gRPC's default limit.

    The help of an option says what the field means. Streams are calls of ``Sample``,
    ``SampleEpoch``, ``Contains``, ``Known`` and ``Publish``, and those of health and reflection;
    calls of other methods are limited apart from them, to the same numbers.

    :ivar max_triples_per_message: largest number of triples in one message
    :ivar max_unanswered_messages: largest number of messages that a client may send on a stream
        ahead of the answers
    :ivar max_unanswered_bytes: bytes of those; one message may always have ``MAX_REQUEST_BYTES``
    """

    max_streams: int = option(
        "N",
        1024,
        least=1,
        help="Largest number of open streams. For one more, a stream that was silent for 10 "
        "seconds is ended; if there is none, the new one is refused.",
        see="limits-of-streams",
    )
    max_streams_per_connection: int = option(
        "N",
        512,
        least=1,
        help="The same for one connection: a client process has one, a proxy one for many "
        "clients. All unix sockets together count as one connection.",
    )
    max_streams_per_token: int = option(
        "N", 768, least=1, help="The same for one token of `--token-file`."
    )
    max_negatives_per_positive: int = option(
        "N",
        2**16,
        least=1,
        most=MAX_NUM_NEGS_PER_POS,
        help=f"Largest k; at most {MAX_NUM_NEGS_PER_POS}.",
    )
    max_negatives_per_message: int = option(
        "N",
        2**19,
        least=1,
        help="Largest batch size times k of one message; at least the largest k. With log "
        "probabilities a negative counts twice. Above the default, answers may exceed the 4 MiB "
        "that gRPC clients accept by default.",
    )
    max_triples_per_message: int = 2**18
    max_unanswered_messages: int = 64
    max_unanswered_bytes: int = MAX_REQUEST_BYTES
    max_ahead_bytes: int = option(
        "BYTES",
        64 * 1024 * 1024,
        least=0,
        help="Memory of answers that clients have not taken yet, of all streams together.",
        see="memory",
    )
    max_table_bytes: int = option(
        "BYTES",
        default_factory=default_table_bytes,
        default_text="a quarter of the memory",
        least=2**20,
        help="Memory of the tables that configurations need besides the graphs: a number, or as "
        "`512MiB`, `2GiB` (K, M, G, T are powers of 1024). Tables that no stream uses are dropped "
        "for new ones; what does not fit even so is refused.",
        see="memory",
    )
    table_keep_seconds: float = option(
        "SECONDS", KEEP_SECONDS, least=0, help="How long a table is kept after its last stream."
    )
    idle_timeout: float = option(
        "SECONDS", 3600.0, above=0, help="A stream without messages for this long is ended."
    )
    max_stream_seconds: float = option(
        "SECONDS",
        1800.0,
        above=0,
        help="A `SampleEpoch` stream of this age is ended with OK. Clients open another one, which "
        "a balancer may send to another replica.",
    )
    upload_idle_timeout: float = option(
        "SECONDS",
        30.0,
        above=0,
        help="An upload of a graph without messages for this long is ended, since others may wait "
        "for it.",
    )
    max_publish_triples: int = option(
        "N",
        2**24,
        least=1,
        help="Largest number of triples of all published graphs together; each takes some 50 "
        "bytes of memory.",
    )
    max_publish_ids: int = option(
        "N",
        2**24,
        least=2,
        help="Largest number of entities and relations of all published graphs together.",
    )
    max_publish_graphs: int = option("N", 256, least=1, help="Largest number of published graphs.")
    publish_keep_seconds: float = option(
        "SECONDS",
        30.0,
        least=0,
        help="How long a published graph must be idle before it is dropped for another one that "
        "needs the room; the one idle for longest first.",
    )

    def __post_init__(self) -> None:
        check_bounds(self)
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
    """Refuse a value that is over a limit.

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
