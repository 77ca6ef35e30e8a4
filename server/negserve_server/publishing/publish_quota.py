"""The limits of published graphs and of uploads, all together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from negserve_server.access.caller import Caller
from negserve_server.config.limits import SILENT_SECONDS, Limits
from negserve_server.errors import Refusal
from negserve_server.publishing.publication import Publication
from negserve_server.publishing.upload import Announcement


class Size(NamedTuple):
    """Size of a graph, in the order in which its fields are checked."""

    graphs: int
    triples: int
    ids: int


class PublishQuota:
    """Checks whether graphs fit together, and selects those that are evicted for others.

    Only received data takes room: an announcement takes none, an upload its triples, and once it
    is complete also its ids. Idle published graphs are evicted for others, but only once these are
    complete. Of uploads in progress silent ones are evicted first, then those of a connection or
    token that has several with more than half of the room together.

    :param idle_seconds: gives the seconds since a published graph was used
    :param limits: the limits
    """

    def __init__(self, idle_seconds: Callable[[str], float], limits: Limits) -> None:
        self._idle_seconds = idle_seconds
        self._limits = limits
        self._room = Size(
            limits.max_publish_graphs, limits.max_publish_triples, limits.max_publish_ids
        )
        #: Sizes of the published graphs.
        self._sizes: dict[str, Size] = {}
        #: Names of those who published them, where that is known.
        self._publishers: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def add(self, name: str, size: int, num_ids: int, publisher: str = "") -> None:
        """Count a published graph.

        :param publisher: name of the caller; empty if that is not known
        """
        self._sizes[name] = Size(1, size, num_ids)
        self._publishers[name] = publisher

    def remove(self, name: str) -> None:
        """Count a graph no more."""
        del self._sizes[name]
        self._publishers.pop(name, None)

    def check_announced(self, announcement: Announcement) -> None:
        """Refuse a graph that would not fit now even without the uploads in progress.

        :raises Refusal: with ``GRAPH_TOO_LARGE``
        """
        lacking = self._lacking(_announced(announcement), self._used(self._idle()))
        if lacking is not None:
            raise lacking

    def check_own(
        self, announcement: Announcement, caller: Caller, uploads: Iterable[Publication]
    ) -> None:
        """Refuse a graph that exceeds what its caller may have published.

        :param uploads: all uploads in progress
        :raises Refusal: with ``GRAPH_TOO_LARGE``
        """
        most = caller.quotas.max_published_triples
        if most is None:
            return
        used = sum(
            size.triples for name, size in self._sizes.items()
            if self._publishers.get(name) == caller.name
        )  # fmt: skip
        used += sum(each.announcement.size for each in uploads if each.caller.name == caller.name)
        left = max(0, most - used)
        if announcement.size > left:
            raise Refusal(
                f"triples is {announcement.size}, {caller} has room for {left}: it may have "
                f"{most} in published graphs, and has {used}; ask the operator to unload some of "
                f"them, or to raise max_published_triples",
                reason="GRAPH_TOO_LARGE",
                caller=caller,
                resource="triples",
                value=announcement.size,
                limit=left,
            )

    def check_arrived(
        self, publication: Publication, uploads: Collection[Publication]
    ) -> Refusal | None:
        """Make room for the data received of a graph, and return a refusal if there is none.

        :param uploads: all uploads in progress, this one included
        """
        others = {other for other in uploads if other is not publication}
        for evicted in chain([[]], self._evictable_uploads(publication, list(others))):
            for other in evicted:
                others.discard(other)
                other.evict(publication.announcement.name)
            used = self._used(self._idle(), others)
            lacking = self._lacking(_arrived(publication), used)
            if lacking is None:
                return None
        return lacking

    def clear(self, publication: Publication, uploads: Iterable[Publication]) -> list[str]:
        """Evict as many idle graphs as a complete upload needs.

        :return: their names, the one idle for longest first
        """
        others = [other for other in uploads if other is not publication]
        evicted: list[str] = []
        for name in self._idle():
            if self._lacking(_arrived(publication), self._used(evicted, others)) is None:
                break
            evicted.append(name)
        for name in evicted:
            self.remove(name)
        return evicted

    def _idle(self) -> list[str]:
        """Return the names of idle published graphs, the one idle for longest first."""
        idle = {name: self._idle_seconds(name) for name in self._sizes}
        limit = self._limits.publish_keep_seconds
        return sorted((name for name in idle if idle[name] > limit), key=lambda name: -idle[name])

    def _used(self, without: Collection[str], uploads: Iterable[Publication] = ()) -> Size:
        """Sum the sizes of published graphs, except some, and of uploads."""
        sizes = [size for name, size in self._sizes.items() if name not in without]
        return _sum([*sizes, *(_arrived(publication) for publication in uploads)])

    def _evictable_uploads(
        self, publication: Publication, others: Iterable[Publication]
    ) -> Iterable[list[Publication]]:
        """Iterate over the uploads to evict, one after the other."""
        started = [each for each in others if each.upload.size and not each.was_evicted]
        started.sort(key=lambda other: -other.upload.size)
        silent = [other for other in started if other.silent_seconds > SILENT_SECONDS]
        yield from ([other] for other in silent)
        for other in started:
            if other not in silent and self._has_too_much(other, publication, started):
                yield [other]

    def _has_too_much(
        self, other: Publication, publication: Publication, uploads: Iterable[Publication]
    ) -> bool:
        """Whether its owner is another one, with several uploads and more than half of the room."""
        if other.has_room or other.owners & publication.owners:
            return False
        for owner in other.owners:
            theirs = [each for each in uploads if owner in each.owners]
            taken = _sum(map(_arrived, theirs))
            if len(theirs) > 1 and any(2 * a > b for a, b in zip(taken, self._room, strict=True)):
                return True
        return False

    def _lacking(self, needed: Size, used: Size) -> Refusal | None:
        """Return the refusal of a graph that does not fit; None if it fits."""
        for field, value, taken, room in zip(Size._fields, needed, used, self._room, strict=True):
            left = max(0, room - taken)
            if value > left:
                return Refusal(
                    f"{field} is {value}, there is room for {left}: the server takes {room} of "
                    f"all published graphs together, and the others were used within "
                    f"{self._limits.publish_keep_seconds:g} seconds, or are being uploaded. Try "
                    f"again later, or ask its operator to raise --max-publish-{field}, or to load "
                    f"the graph with --dataset",
                    reason="GRAPH_TOO_LARGE",
                    resource=field,
                    value=value,
                    limit=left,
                )
        return None


def _announced(announcement: Announcement) -> Size:
    return Size(1, announcement.size, announcement.num_ids)


def _arrived(publication: Publication) -> Size:
    size = publication.upload.size
    if publication.was_evicted or not size:
        return Size(0, 0, 0)
    if publication.upload.is_complete:
        return _announced(publication.announcement)
    return Size(1, size, 0)


def _sum(sizes: Iterable[Size]) -> Size:
    return Size(*map(sum, zip(Size(0, 0, 0), *sizes, strict=True)))
