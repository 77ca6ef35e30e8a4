"""Labels of a graph as people read and write them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from negserve.terminal.nearest import did_you_mean
from negserve.types.checks.text import printable, quoted, shortened
from negserve_server.graph import TriplesFactory
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.pages.refused_request import RefusedRequest

#: Labels that a form suggests, and characters of the longest one.
_MOST_SUGGESTED, _MOST_CHARACTERS = 200, 100
#: Labels that a mistyped one is compared with: first by their beginning, then by all letters.
_MOST_NAMES, _MOST_COMPARED = 20_000, 1000


@dataclass(frozen=True, slots=True)
class ShownId:
    """An entity or a relation.

    :ivar id: of it
    :ivar label: without control characters, and short; None for a graph without labels
    """

    id: int
    label: str | None


class ShownLabels:
    """The labels of one id space.

    :param name: of what has them, such as ``entity``
    :param vocabulary: None for a graph without labels
    :param size: of the id space
    """

    def __init__(self, name: str, vocabulary: Vocabulary | None, size: int) -> None:
        self._name = name
        self._vocabulary = vocabulary
        self._size = size

    @classmethod
    def of_entities(cls, factory: TriplesFactory) -> ShownLabels:
        """Take those of the entities of a graph."""
        return cls("entity", factory.entities, factory.num_entities)

    @classmethod
    def of_relations(cls, factory: TriplesFactory) -> ShownLabels:
        """Take those of the relations of a graph."""
        return cls("relation", factory.relations, factory.num_relations)

    def shown(self, id_: int) -> ShownId:
        """Show an id."""
        if self._vocabulary is None:
            return ShownId(id_, None)
        return ShownId(id_, shortened(self._vocabulary.labels(id_, id_ + 1)[0]))

    def written(self, id_: int) -> str:
        """Write an id so that :meth:`find` finds it: as its label, unless that is long."""
        label = None if self._vocabulary is None else self._vocabulary.labels(id_, id_ + 1)[0]
        return label if label is not None and _is_plain(label) else str(id_)

    def suggestions(self) -> list[str]:
        """Give the first labels, for a form."""
        if self._vocabulary is None:
            return []
        return [each for each in self._vocabulary.labels(0, _MOST_SUGGESTED) if _is_plain(each)]

    def find(self, text: str) -> int:
        """Find the id of a label; or else of an id, written out.

        :raises RefusedRequest: if there is none, with labels that are alike
        """
        if self._vocabulary is not None and (found := self._vocabulary.id_of(text)) is not None:
            return found
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(self._size))
        if is_number and int(text) < self._size:
            return int(text)
        what = "ids" if self._vocabulary is None else "labels or ids"
        raise RefusedRequest(
            "400 Bad Request",
            f"there is no {self._name} {quoted(text)}; give {what}, which are 0 to "
            f"{self._size - 1}{self._alike(text)}",
        )

    def _alike(self, text: str) -> str:
        if self._vocabulary is None or not _is_plain(text):
            return ""
        begin = text[:1].casefold()
        some = self._vocabulary.labels(0, _MOST_NAMES)
        alike = (each for each in some if _is_plain(each) and each[:1].casefold() == begin)
        return did_you_mean(text, islice(alike, _MOST_COMPARED))


def _is_plain(label: str) -> bool:
    return len(label) <= _MOST_CHARACTERS and printable(label) == label
