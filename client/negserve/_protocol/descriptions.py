"""What a server says about itself and its datasets, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from itertools import pairwise

from negserve._protocol import messages
from negserve._protocol.messages import check_equal, check_fingerprint, check_range, invalid
from negserve.types.fingerprint import graph_fingerprint
from negserve.v1 import sampler_pb2 as pb

_VERSION = re.compile(r"\d+\.\d+\.\d+\S{0,80}", flags=re.ASCII)
_MOST_VERSIONS = 1000
#: Limits that are 0 where clients may not publish.
_MAY_BE_0 = ("max_publish_triples", "max_publish_ids", "max_publish_graphs")
#: Splits by their number on the wire.
SPLIT_NAMES = {value: name for name, value in messages.SPLITS.items()}
_MOST_IDS = 2**32


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of a server.

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


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Version and limits of a server.

    :ivar version: as in the CHANGELOG, ``MAJOR.MINOR.PATCH``
    :ivar algorithm_versions: versions of the sampling function that it knows, ascending; one of
        them, or 0 for the newest, is ``SamplerConfig.algorithm_version``
    :ivar limits: limits of requests
    """

    version: str
    algorithm_versions: tuple[int, ...]
    limits: ServerLimits

    @classmethod
    def decode(cls, answer: pb.GetServerResponse) -> ServerInfo:
        """Check and decode an answer.

        :raises InvalidAnswerError: naming the field
        """
        if not _VERSION.fullmatch(answer.version):
            raise invalid("version", repr(answer.version), "MAJOR.MINOR.PATCH")
        versions = tuple(answer.algorithm_versions)
        check_range("algorithm_versions, numbers", len(versions), 1, _MOST_VERSIONS)
        if versions[0] < 1 or any(a >= b for a, b in pairwise(versions)):
            raise invalid("algorithm_versions", versions, "ascending, from 1 on")
        values = {field.name: getattr(answer.limits, field.name) for field in fields(ServerLimits)}
        for name, value in values.items():
            lowest = 0 if name in _MAY_BE_0 else 1 if isinstance(value, int) else 5e-324
            check_range(f"limits.{name}", value, lowest, 2**64 - 1)
        return cls(answer.version, versions, ServerLimits(**values))


def check_dataset(path: str, dataset: pb.Dataset) -> None:
    """Check the description of a dataset. It may have splits that this client does not know.

    :raises InvalidAnswerError: naming the field
    """
    if not dataset.name:
        raise invalid(f"{path}.name", "''", "a name")
    check_range(f"{path}.num_entities", dataset.num_entities, 1, _MOST_IDS)
    check_range(f"{path}.num_relations", dataset.num_relations, 1, _MOST_IDS)
    most = dataset.num_entities**2 * dataset.num_relations
    numbers = [split.split for split in dataset.splits]
    if pb.SPLIT_TRAINING not in numbers or 0 in numbers or len(set(numbers)) < len(numbers):
        raise invalid(f"{path}.splits", numbers, "different ones, training among them")
    for split in dataset.splits:
        check_range(f"{path}.splits.num_triples", split.num_triples, 0, most)
        check_fingerprint(f"{path}.splits.fingerprint", split.fingerprint)
    check_fingerprint(f"{path}.fingerprint", dataset.fingerprint)
    types = dataset.type_constraints_fingerprint or None
    if types is not None:
        check_fingerprint(f"{path}.type_constraints_fingerprint", types)
    if set(numbers) <= set(SPLIT_NAMES):
        of_splits = {SPLIT_NAMES[split.split]: split.fingerprint for split in dataset.splits}
        expected = graph_fingerprint(of_splits, types)
        check_equal(f"{path}.fingerprint, by those of its parts", dataset.fingerprint, expected)


def check_limits(path: str, limits: pb.Limits) -> None:
    """Check that limits allow requests.

    :raises InvalidAnswerError: naming the field
    """
    for field in (
        "max_negatives_per_positive",
        "max_negatives_per_message",
        "max_triples_per_message",
        "max_unanswered_messages",
        "max_unanswered_bytes",
    ):
        check_range(f"{path}.{field}", getattr(limits, field), 1, 2**64 - 1)
