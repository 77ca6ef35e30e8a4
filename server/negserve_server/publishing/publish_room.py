"""Room for the graphs that clients publish: what is served, and what has arrived of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain
from typing import NamedTuple

from negserve_server.config.limits import SILENT_SECONDS, Limits
from negserve_server.errors import Refusal
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publication import Publication
from negserve_server.publishing.upload import Announcement


class Size(NamedTuple):
    """What a graph takes, in the order in which it is checked."""

    graphs: int
    triples: int
    ids: int


class PublishRoom:
    """Tells whether graphs fit beside each other, and who gives way.

    Room is taken by what has arrived: an announcement takes none, an upload its triples, and once
    it is whole its ids. Published graphs that no stream was about for a while give way to others,
    but not before those are whole. Of uploads under way the silent ones give way first, then those
    of a connection or token that has several, with more than half of the room together.

    :param datasets: all graphs that are served
    :param limits: how much room there is
    """

    def __init__(self, datasets: Datasets, limits: Limits) -> None:
        self._datasets = datasets
        self._limits = limits
        self._room = Size(
            limits.max_publish_graphs, limits.max_publish_triples, limits.max_publish_ids
        )
        #: Of the published graphs.
        self._sizes: dict[str, Size] = {}

    def add(self, name: str, size: int, num_ids: int) -> None:
        """Note that a graph is published."""
        self._sizes[name] = Size(1, size, num_ids)

    def check_announced(self, announcement: Announcement) -> None:
        """Refuse a graph that could not be published now, if nothing else were under way.

        :raises Refusal: with ``GRAPH_TOO_LARGE``
        """
        lacking = self._lacking(_announced(announcement), self._used(self._idle()))
        if lacking is not None:
            raise lacking

    def check_arrived(
        self, publication: Publication, under_way: Collection[Publication]
    ) -> Refusal | None:
        """Make room for what has arrived of a graph; say what is lacking if there is none.

        :param under_way: all uploads, this one among them
        """
        others = {other for other in under_way if other is not publication}
        for gives_way in chain([[]], self._may_give_way(publication, list(others))):
            for other in gives_way:
                others.discard(other)
                other.give_way(publication.announcement.name)
            used = self._used(self._idle(), others)
            lacking = self._lacking(_arrived(publication), used)
            if lacking is None:
                return None
        return lacking

    def clear(self, publication: Publication, under_way: Iterable[Publication]) -> list[str]:
        """Take published graphs out of account for one that is whole, as far as it takes.

        :return: their names, the one idle for the longest first
        """
        others = [other for other in under_way if other is not publication]
        given_up: list[str] = []
        for name in self._idle():
            if self._lacking(_arrived(publication), self._used(given_up, others)) is None:
                break
            given_up.append(name)
        for name in given_up:
            del self._sizes[name]
        return given_up

    def _idle(self) -> list[str]:
        """Name the published graphs that may give way, the one idle for the longest first."""
        idle = {name: self._datasets.idle_seconds(name) for name in self._sizes}
        limit = self._limits.publish_keep_seconds
        return sorted((name for name in idle if idle[name] > limit), key=lambda name: -idle[name])

    def _used(self, without: Collection[str], under_way: Iterable[Publication] = ()) -> Size:
        """Sum up what is published, some graphs excepted, and under way."""
        sizes = [size for name, size in self._sizes.items() if name not in without]
        return _sum([*sizes, *(_arrived(publication) for publication in under_way)])

    def _may_give_way(
        self, publication: Publication, others: Iterable[Publication]
    ) -> Iterable[list[Publication]]:
        """Iterate over uploads that make room, one after the other."""
        started = [each for each in others if each.upload.size and not each.gave_way]
        started.sort(key=lambda other: -other.upload.size)
        silent = [other for other in started if other.silent_seconds > SILENT_SECONDS]
        yield from ([other] for other in silent)
        for other in started:
            if other not in silent and self._has_too_much(other, publication, started):
                yield [other]

    def _has_too_much(
        self, other: Publication, publication: Publication, under_way: Iterable[Publication]
    ) -> bool:
        """Tell whether it is one of several of somebody else's with more than half of the room."""
        if other.has_room or other.owners & publication.owners:
            return False
        for owner in other.owners:
            theirs = [each for each in under_way if owner in each.owners]
            taken = _sum(map(_arrived, theirs))
            if len(theirs) > 1 and any(2 * a > b for a, b in zip(taken, self._room, strict=True)):
                return True
        return False

    def _lacking(self, needed: Size, used: Size) -> Refusal | None:
        """Say what a graph has no room for; None if it fits."""
        for field, value, taken, room in zip(Size._fields, needed, used, self._room, strict=True):
            left = max(0, room - taken)
            if value > left:
                return Refusal(
                    f"{field} is {value}, there is room for {left}: the server takes {room} of "
                    f"all published graphs together, and the others were used within "
                    f"{self._limits.publish_keep_seconds:g} seconds, or are on their way. Try "
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
    if publication.gave_way or not size:
        return Size(0, 0, 0)
    if publication.upload.is_complete:
        return _announced(publication.announcement)
    return Size(1, size, 0)


def _sum(sizes: Iterable[Size]) -> Size:
    return Size(*map(sum, zip(Size(0, 0, 0), *sizes, strict=True)))
