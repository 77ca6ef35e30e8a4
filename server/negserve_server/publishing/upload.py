"""The upload of a graph: its announcement, and the data received."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import SPLITS, Slot, Split
from negserve_server.errors import IdOutOfRange, InvalidInput
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.graph.type_constraints import CONSTRAINED_SLOTS, TypeConstraints
from negserve_server.graph.vocabulary import MAX_LABEL_BYTES, Vocabulary
from negserve_server.index.filter_index import check_ids

#: What a dataset that a client names may be called: never a path.
LEGAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", flags=re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", flags=re.ASCII)
_ID_SPACE = 2**32
#: Memory of a received triple, the unit in which everything received is measured.
_BYTES_PER_TRIPLE = 12
_BYTES_PER_PAIR = 8

Member = Literal["chunk", "type_constraints", "labels"]
LabelKind = Literal["entity", "relation"]
LABEL_KINDS: tuple[LabelKind, ...] = ("entity", "relation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a client states about a graph before it sends it.

    :ivar name: name of the dataset
    :ivar fingerprint: 64 hexadecimal digits
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar num_triples: number of triples by split, in the order of the splits
    :ivar num_pairs: number of pairs of relation and allowed entity by slot; None for a graph
        without type constraints
    :ivar num_label_bytes: number of bytes of labels; None for a graph without labels
    :raises InvalidRequestError: naming the field, its value and what is legal
    """

    name: str
    fingerprint: str
    num_entities: int
    num_relations: int
    num_triples: Mapping[Split, int]
    num_pairs: Mapping[Slot, int] | None = None
    num_label_bytes: int | None = None

    def __post_init__(self) -> None:
        if not LEGAL_NAME.fullmatch(self.name):
            raise invalid_configuration(
                "name",
                self.name if len(self.name) <= 100 else f"{self.name[:100]}...",
                "give 1 to 100 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or a digit",
            )
        if not _FINGERPRINT.fullmatch(self.fingerprint):
            raise invalid_configuration(
                "fingerprint", self.fingerprint[:100], "give 64 hexadecimal digits in lower case"
            )
        for field in ("num_entities", "num_relations"):
            if not 1 <= getattr(self, field) <= _ID_SPACE:
                raise invalid_configuration(
                    field, getattr(self, field), f"give 1 to {_ID_SPACE}", limit=_ID_SPACE
                )
        if self.num_triples.get("training", 0) < 1:
            raise invalid_configuration(
                "splits", dict(self.num_triples), "give training, with at least one triple"
            )
        if self.num_pairs is not None:
            most = self.num_entities * self.num_relations
            if max(self.num_pairs.values()) > most or not any(self.num_pairs.values()):
                raise invalid_configuration(
                    "type_constraints",
                    dict(self.num_pairs),
                    f"give 1 to {most} different pairs; leave it out for a graph without",
                )
        if self.num_label_bytes is not None:
            least, most = self.num_ids, self.num_ids * MAX_LABEL_BYTES
            if not least <= self.num_label_bytes <= most:
                raise invalid_configuration(
                    "labels",
                    self.num_label_bytes,
                    f"give {least} to {most} bytes: each of {self.num_ids} labels has 1 to "
                    f"{MAX_LABEL_BYTES}",
                )

    @property
    def total(self) -> int:
        """Number of triples of all splits."""
        return sum(self.num_triples.values())

    @property
    def num_ids(self) -> int:
        """Number of entities and relations."""
        return self.num_entities + self.num_relations

    @property
    def size(self) -> int:
        """Memory of the graph, in triples: bytes of type constraints and labels count as triples.

        This is what the graph takes of the limit on triples.
        """
        pairs = 0 if self.num_pairs is None else sum(self.num_pairs.values())
        return self.total + in_triples(pairs, self.num_label_bytes or 0)


def in_triples(num_pairs: int, num_label_bytes: int) -> int:
    """Convert the bytes of type constraints and labels to a number of triples, rounded up."""
    return -(-(_BYTES_PER_PAIR * num_pairs + num_label_bytes) // _BYTES_PER_TRIPLE)


def size_of(graph: TriplesFactory) -> int:
    """Return what :attr:`Announcement.size` is for a graph."""
    types = graph.type_constraints
    num_pairs = 0 if types is None else len(types.heads) + len(types.tails)
    num_bytes = sum(v.num_bytes for v in (graph.entities, graph.relations) if v is not None)
    return sum(map(len, graph.columns.values())) + in_triples(num_pairs, num_bytes)


class _Part(NamedTuple):
    """One part of an announced graph, in the order of the upload.

    :ivar member: field of the request that has it
    :ivar name: the split, the slot or the kind of labels
    :ivar total: number of items
    :ivar what: noun for error messages
    """

    member: Member
    name: str
    total: int
    what: str


class Upload:
    """Receives an announced graph, and builds its triples factory.

    Holds 12 bytes for each triple received, 8 for each pair of type constraints, and the labels
    with 16 bytes each: never more than was announced.
    """

    def __init__(self, announcement: Announcement) -> None:
        self._announcement = announcement
        self._parts = [part for part in _parts(announcement) if part.total]
        self._counts = {(part.member, part.name): 0 for part in self._parts}
        self._triples: dict[str, list[NDArray[np.uint32]]] = {
            split: [] for split in SPLITS if split in announcement.num_triples
        }
        self._pairs: dict[str, list[NDArray[np.uint32]]] = {slot: [] for slot in CONSTRAINED_SLOTS}
        self._labels: dict[str, list[pl.Series]] = {kind: [] for kind in LABEL_KINDS}
        self._num_label_bytes = 0

    @property
    def num_received(self) -> int:
        """Number of triples received."""
        return self._num_of("chunk")

    @property
    def size(self) -> int:
        """Memory of what was received, in triples, as :attr:`Announcement.size`."""
        return self.num_received + in_triples(
            self._num_of("type_constraints"), self._num_label_bytes
        )

    def _num_of(self, member: Member) -> int:
        return sum(count for (of, _), count in self._counts.items() if of == member)

    @property
    def expected(self) -> Member | None:
        """The kind of request that comes next; None after the last."""
        part = self._next_part()
        return None if part is None else part.member

    @property
    def is_complete(self) -> bool:
        """Whether everything announced has arrived."""
        return self._next_part() is None

    def _next_part(self) -> _Part | None:
        return next(
            (part for part in self._parts if self._counts[part.member, part.name] < part.total),
            None,
        )

    def add(self, split: Split, first_row: int, triples: NDArray[np.int64]) -> None:
        """Add the next triples.

        :param first_row: number of triples of the split before these
        :param triples: shape (n, 3), at least one
        :raises InvalidInput: if these are not the next ones
        :raises IdOutOfRange: if an id is outside the announced id space
        """
        self._check_order("chunk", split, f"triples of {split}", first_row, len(triples))
        check_ids(triples, self._announcement.num_entities, self._announcement.num_relations)
        self._triples[split].append(triples.astype(np.uint32))
        self._counts["chunk", split] += len(triples)

    def add_type_constraints(self, slot: Slot, first_row: int, pairs: NDArray[np.int64]) -> None:
        """Add the next type constraints.

        :param first_row: number of pairs of the slot before these
        :param pairs: of relation and allowed entity, shape (n, 2), at least one
        :raises InvalidInput: if these are not the next ones, sorted and different
        :raises IdOutOfRange: if an id is outside the announced id space
        """
        self._check_order("type_constraints", slot, f"pairs of {slot}s", first_row, len(pairs))
        sizes = self._announcement.num_relations, self._announcement.num_entities
        for column, name, size in zip(pairs.T, ("relation", slot), sizes, strict=True):
            wrong = (column < 0) | (column >= size)
            if wrong.any():
                row = int(wrong.argmax())
                raise IdOutOfRange(row=row, slot=name, value=int(column[row]), limit=size)
        before = self._pairs[slot][-1][-1:] if self._pairs[slot] else pairs[:0]
        relations, entities = np.concatenate([before, pairs]).astype(np.int64).T
        steps = np.diff(relations)
        is_later = (steps > 0) | ((steps == 0) & (np.diff(entities) > 0))
        if not is_later.all():
            row = int(is_later.argmin())
            found = f"({relations[row + 1]}, {entities[row + 1]})"
            expected = f"a pair behind ({relations[row]}, {entities[row]})"
            raise _out_of_order(
                f"the pair {found} of {slot}s", f"{expected}, sorted by relation, then entity"
            )
        self._pairs[slot].append(pairs.astype(np.uint32))
        self._counts["type_constraints", slot] += len(pairs)

    def add_labels(self, kind: LabelKind, first_id: int, labels: Sequence[str]) -> None:
        """Add the next labels.

        :param first_id: number of labels of the kind before these
        :param labels: at least one
        :raises InvalidInput: if these are not the next ones, or have more bytes than announced
        :raises InvalidRequestError: for a label that is not legal
        """
        self._check_order("labels", kind, f"labels of {kind} ids", first_id, len(labels))
        series = pl.Series(labels, dtype=pl.String)
        Vocabulary.check_labels(series)
        num_bytes = int(series.str.len_bytes().sum())
        left = (self._announcement.num_label_bytes or 0) - self._num_label_bytes - num_bytes
        # The last labels have to use up the announced bytes.
        is_last = kind == LABEL_KINDS[-1] and first_id + len(labels) == (
            self._announcement.num_relations
        )
        if left < 0 or (is_last and left > 0):
            raise _out_of_order(
                f"{self._num_label_bytes + num_bytes} bytes of labels",
                f"{self._announcement.num_label_bytes} as announced",
            )
        self._labels[kind].append(series)
        self._counts["labels", kind] += len(labels)
        self._num_label_bytes += num_bytes

    def _check_order(self, member: Member, name: str, what: str, first: int, count: int) -> None:
        """Refuse anything but the next piece.

        :raises InvalidInput: with ``STREAM_OUT_OF_ORDER``
        """
        part = self._next_part()
        assert part is not None, "nothing is read after the last piece"
        before = self._counts[part.member, part.name]
        room = part.total - before
        if (member, name, first) != (part.member, part.name, before) or not 0 < count <= room:
            raise _out_of_order(
                f"{count} {what} from row {first} on",
                f"1 to {room} {part.what} from row {before} on",
            )

    def build(self) -> TriplesFactory:
        """Build the graph, and release the data received.

        :raises InvalidInput: with ``FINGERPRINT_MISMATCH`` if it is not the announced one
        :raises InvalidRequestError: for a duplicate label
        """
        announcement = self._announcement
        splits: dict[str, NDArray[np.uint32]] = {}
        for split, chunks in self._triples.items():
            splits[split] = np.concatenate([np.empty((0, 3), dtype=np.uint32), *chunks])
            chunks.clear()
        pairs: dict[str, NDArray[np.uint32]] = {}
        for slot, pieces in self._pairs.items():
            pairs[slot] = np.concatenate([np.empty((0, 2), dtype=np.uint32), *pieces])
            pieces.clear()
        vocabularies: dict[str, Vocabulary] = {}
        if announcement.num_label_bytes is not None:
            for kind, series in self._labels.items():
                vocabularies[kind] = Vocabulary.distinct(pl.concat(series))
                series.clear()
        factory = TriplesFactory(
            splits,
            num_entities=announcement.num_entities,
            num_relations=announcement.num_relations,
            entities=vocabularies.get("entity"),
            relations=vocabularies.get("relation"),
            type_constraints=(
                None
                if announcement.num_pairs is None
                else TypeConstraints(pairs["head"], pairs["tail"])
            ),
        )
        if factory.fingerprint != announcement.fingerprint:
            raise InvalidInput(
                f"the uploaded graph has fingerprint {factory.fingerprint}, announced was "
                f"{announcement.fingerprint}; compute it as docs/protocol.md says",
                reason="FINGERPRINT_MISMATCH",
                value=announcement.fingerprint,
                limit=(factory.fingerprint,),
            )
        return factory


def _parts(announcement: Announcement) -> Iterator[_Part]:
    for split, count in announcement.num_triples.items():
        yield _Part("chunk", split, count, f"triples of {split}")
    for slot, count in (announcement.num_pairs or {}).items():
        yield _Part("type_constraints", slot, count, f"pairs of {slot}s")
    if announcement.num_label_bytes is not None:
        sizes = announcement.num_entities, announcement.num_relations
        for kind, count in zip(LABEL_KINDS, sizes, strict=True):
            yield _Part("labels", kind, count, f"labels of {kind} ids")


def _out_of_order(found: str, expected: str) -> InvalidInput:
    return InvalidInput(
        f"expected {expected}, got {found}; send what was announced, in order",
        reason="STREAM_OUT_OF_ORDER",
        value=found,
        expected=expected,
    )
