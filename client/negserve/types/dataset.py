"""What identifies a dataset on a server, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What messages may ask of the server.

    :ivar max_negatives_per_positive: largest k
    :ivar max_negatives_per_message: largest batch times k of one message; where log
        probabilities come along, a negative counts twice
    :ivar max_triples_per_message: most triples in one message
    :ivar max_unanswered_messages: most messages of a stream that are sent ahead of their answers
    :ivar max_unanswered_bytes: most bytes of those; a single message may have more
    """

    max_negatives_per_positive: int
    max_negatives_per_message: int
    max_triples_per_message: int
    max_unanswered_messages: int
    max_unanswered_bytes: int

    def positives_per_message(self, num_negs_per_pos: int, log_q: bool) -> int:
        """Return how many positives one message may hold, at least 1.

        :param num_negs_per_pos: k; the server refuses numbers below 1
        """
        weight = 2 if log_q else 1
        fitting = self.max_negatives_per_message // weight // max(num_negs_per_pos, 1)
        return max(1, min(fitting, self.max_triples_per_message))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as requests name it.

    :ivar name: the dataset's name there
    :ivar fingerprint: SHA-256 of id space, triples and type constraints, 64 hexadecimal digits
    :ivar num_entities: entity ids are 0 to num_entities - 1
    :ivar num_relations: relation ids are 0 to num_relations - 1
    :ivar num_triples: distinct training triples
    :ivar has_vocabulary: whether entities and relations have labels
    :ivar limits: what one message may ask for
    :ivar restore: publishes the graph again, on the replica that it is given, and tells whether
        that has it now; None where the caller does not have the graph
    """

    name: str
    fingerprint: str
    num_entities: int
    num_relations: int
    num_triples: int
    has_vocabulary: bool
    limits: Limits
    restore: Callable[[Any], Awaitable[bool]] | None = field(default=None, compare=False)
