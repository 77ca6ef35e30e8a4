"""A graph that a client sends: what it announced, and what has come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve_server.errors import InvalidConfiguration, InvalidInput
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.index.filter_index import check_ids
from negserve_server.sampling import SPLITS
from negserve_server.sampling.config import Split

#: What a dataset that a client names may be called: never a path.
LEGAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", flags=re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", flags=re.ASCII)
_ID_SPACE = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a client says of a graph before it sends it.

    :ivar name: what the dataset shall be called
    :ivar fingerprint: 64 hexadecimal digits
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar num_triples: how many triples will come, by split, in the order of the splits
    :raises InvalidConfiguration: naming the field, its value and what is legal
    """

    name: str
    fingerprint: str
    num_entities: int
    num_relations: int
    num_triples: Mapping[Split, int]

    def __post_init__(self) -> None:
        if not LEGAL_NAME.fullmatch(self.name):
            raise InvalidConfiguration(
                "name",
                self.name if len(self.name) <= 100 else f"{self.name[:100]}...",
                "give 1 to 100 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or a digit",
            )
        if not _FINGERPRINT.fullmatch(self.fingerprint):
            raise InvalidConfiguration(
                "fingerprint", self.fingerprint[:100], "give 64 hexadecimal digits in lower case"
            )
        for field in ("num_entities", "num_relations"):
            if not 1 <= getattr(self, field) <= _ID_SPACE:
                raise InvalidConfiguration(
                    field, getattr(self, field), f"give 1 to {_ID_SPACE}", limit=_ID_SPACE
                )
        if self.num_triples.get("training", 0) < 1:
            raise InvalidConfiguration(
                "splits", dict(self.num_triples), "give training, with at least one triple"
            )

    @property
    def total(self) -> int:
        """How many triples will come, of all splits together."""
        return sum(self.num_triples.values())

    @property
    def num_ids(self) -> int:
        """How large the id space is, entities and relations together."""
        return self.num_entities + self.num_relations


class Upload:
    """Takes the triples of an announced graph, and makes a triples factory of them.

    Holds 12 bytes a triple that has come, never more than what was announced.
    """

    def __init__(self, announcement: Announcement) -> None:
        self._announcement = announcement
        self._chunks: dict[Split, list[NDArray[np.uint32]]] = {
            split: [] for split in SPLITS if split in announcement.num_triples
        }
        self._counts: dict[Split, int] = dict.fromkeys(self._chunks, 0)

    @property
    def num_received(self) -> int:
        """How many triples have come."""
        return sum(self._counts.values())

    @property
    def is_complete(self) -> bool:
        """Whether all have come."""
        return self.num_received == self._announcement.total

    def add(self, split: Split, first_row: int, triples: NDArray[np.int64]) -> None:
        """Take the next triples.

        :param first_row: how many of the split should have come before
        :param triples: shape (n, 3), at least one
        :raises InvalidInput: if these are not the ones that are due
        :raises IdOutOfRange: if an id is outside the announced id space
        """
        due = next(
            name for name, count in self._announcement.num_triples.items()
            if self._counts[name] < count
        )  # fmt: skip
        room = self._announcement.num_triples[due] - self._counts[due]
        if (split, first_row) != (due, self._counts[due]) or not 0 < len(triples) <= room:
            found = f"{len(triples)} triples of {split} from row {first_row} on"
            expected = f"1 to {room} triples of {due} from row {self._counts[due]} on"
            raise InvalidInput(
                f"{found} came where {expected} were due; send what was announced, in order",
                reason="STREAM_OUT_OF_ORDER",
                value=found,
                expected=expected,
            )
        check_ids(triples, self._announcement.num_entities, self._announcement.num_relations)
        self._chunks[split].append(triples.astype(np.uint32))
        self._counts[split] += len(triples)

    def build(self) -> TriplesFactory:
        """Make the graph, and let go of what has come.

        :raises InvalidInput: with ``FINGERPRINT_MISMATCH`` if it is not the announced one
        """
        announcement = self._announcement
        splits: dict[str, NDArray[np.uint32]] = {}
        for split, chunks in self._chunks.items():
            splits[split] = np.concatenate([np.empty((0, 3), dtype=np.uint32), *chunks])
            chunks.clear()
        factory = TriplesFactory(
            splits,
            num_entities=announcement.num_entities,
            num_relations=announcement.num_relations,
        )
        if factory.fingerprint != announcement.fingerprint:
            raise InvalidInput(
                f"the triples that came have fingerprint {factory.fingerprint}, announced was "
                f"{announcement.fingerprint}; compute it as the protocol document says",
                reason="FINGERPRINT_MISMATCH",
                value=announcement.fingerprint,
                limit=(factory.fingerprint,),
            )
        return factory
