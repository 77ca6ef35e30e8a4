"""What a server says of a stream that goes on, as Python's warnings."""

from __future__ import annotations

from collections.abc import Iterable

from negserve.types.text import printable
from negserve.types.warning_categories import NegserveWarning, UnknownPositivesWarning, warn
from negserve.v1 import sampler_pb2 as pb

_CATEGORIES: dict[int, type[NegserveWarning]] = {
    pb.Notice.KIND_UNKNOWN_POSITIVES: UnknownPositivesWarning
}
_MOST_CHARACTERS = 1000
_MOST_KINDS = 16


class Notices:
    """Passes each kind of notice on once, whatever streams it comes by.

    A kind that this client does not know, of a newer server, is a :class:`NegserveWarning`.
    """

    def __init__(self) -> None:
        self._told: set[int] = set()

    def tell(self, target: str, notices: Iterable[pb.Notice]) -> None:
        """Warn of what is new.

        :param target: the replica that says so
        :raises NegserveWarning: where Python is told to raise it
        """
        for notice in notices:
            if notice.kind not in self._told and len(self._told) < _MOST_KINDS:
                self._told.add(notice.kind)
                category = _CATEGORIES.get(notice.kind, NegserveWarning)
                warn(f"{target}: {printable(notice.text[:_MOST_CHARACTERS])}", category)
