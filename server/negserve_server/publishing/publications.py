"""Graphs that clients publish: one upload and one build for all who publish the same."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from negserve_server.admission.stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.errors import Refusal
from negserve_server.graph import TriplesFactory
from negserve_server.publishing.datasets import Datasets, check_fingerprint
from negserve_server.publishing.publication import Publication
from negserve_server.publishing.publish_room import PublishRoom
from negserve_server.publishing.upload import Announcement, Upload, size_of

logger = logging.getLogger(__name__)


class Publications:
    """Keeps account of the published graphs, and of those under way.

    :param datasets: where they are added to
    :param published: names of those among them that were published before
    :param limits: how much may be published
    :param allowed: whether anything may
    :param executor: one thread that builds, apart from those that draw
    :param keep: called there with name and graph: builds its index, and writes it down
    :param announce: called when there is another graph that is served
    :param discard: called with the name of each graph that is not served any more
    """

    def __init__(
        self,
        datasets: Datasets,
        published: Iterable[str],
        limits: Limits,
        *,
        allowed: bool,
        executor: Executor,
        keep: Callable[[str, TriplesFactory], None],
        announce: Callable[[], None],
        discard: Callable[[str], None],
    ) -> None:
        self._datasets = datasets
        self._room = PublishRoom(datasets, limits)
        self._allowed = allowed
        self._executor = executor
        self._keep = keep
        self._announce = announce
        self._discard = discard
        self._under_way: dict[str, Publication] = {}
        self._builds: set[asyncio.Task[None]] = set()
        for name in published:
            graph = datasets[name]
            self._room.add(name, size_of(graph), graph.num_entities + graph.num_relations)

    def is_served(self, announcement: Announcement) -> bool:
        """Tell whether a graph is there.

        :raises Refusal: with ``FINGERPRINT_MISMATCH`` if its name is another graph's
        """
        if announcement.name not in self._datasets:
            return False
        self._datasets.find(announcement.name, announcement.fingerprint)
        self._datasets.note_use(announcement.name)
        return True

    def join(self, announcement: Announcement) -> Publication:
        """Give the publication of a graph that is not there; begin it if none is under way.

        :raises Refusal: if it is not allowed, does not fit, or its name is another graph's
        """
        publication = self._under_way.get(announcement.name)
        if publication is not None:
            underway = publication.announcement.fingerprint
            check_fingerprint(announcement.name, announcement.fingerprint, underway)
            return publication
        if not self._allowed:
            raise Refusal(
                f"there is no dataset {announcement.name!r}, and this server takes none from "
                f"clients; ask its operator for --allow-publish, or to load it with --dataset",
                reason="PUBLISH_NOT_ALLOWED",
                value=announcement.name,
            )
        self._room.check_announced(announcement)
        publication = self._under_way[announcement.name] = Publication(announcement)
        return publication

    @contextmanager
    def uploading(self, publication: Publication, uploader: ServerStream[Any]) -> Iterator[Upload]:
        """Let one client send the triples; if they are complete in the end, build the graph.

        The build is the server's: it goes on if the client leaves.

        :param uploader: the stream over which they come
        """
        publication.uploader = uploader
        begin = time.monotonic()
        try:
            yield publication.upload
        finally:
            if publication.has_room:
                publication.is_building = True
                build = asyncio.ensure_future(self._build(publication, begin))
                self._builds.add(build)
                build.add_done_callback(self._builds.discard)
            elif self._under_way.get(publication.announcement.name) is publication:
                logger.info(
                    "upload of %s given up after %d of %d triples",
                    publication.announcement.name,
                    publication.upload.num_received,
                    publication.announcement.total,
                )
                self._end(publication)

    def note_arrival(self, publication: Publication) -> None:
        """Make room for what has arrived of a graph; if that is all, let idle graphs give way.

        :raises Refusal: with ``GRAPH_TOO_LARGE`` if there is no room; all who wait for the
            graph are told
        """
        under_way = self._under_way.values()
        lacking = self._room.check_arrived(publication, under_way)
        if lacking is not None:
            self._end(publication, lacking)
            raise lacking
        if not publication.upload.is_complete:
            return
        for name in self._room.clear(publication, under_way):
            logger.warning(
                "published dataset %s gives way to %s: no stream was about it for %.0f s",
                name,
                publication.announcement.name,
                self._datasets.idle_seconds(name),
            )
            self._datasets.remove(name)
            self._discard(name)
        publication.has_room = True

    async def _build(self, publication: Publication, begin: float) -> None:
        name = publication.announcement.name
        uploaded = time.monotonic()
        try:
            factory = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._make, publication
            )
        except Exception as error:
            self._end(publication, error)
            return
        except BaseException:
            self._end(publication)
            raise
        self._datasets.add(name, factory)
        announcement = publication.announcement
        self._room.add(name, announcement.size, announcement.num_ids)
        del self._under_way[name]
        logger.info(
            "published %s: %s, uploaded in %.1f s, built in %.1f s",
            name,
            factory.summary,
            uploaded - begin,
            time.monotonic() - uploaded,
        )
        self._announce()
        publication.end()

    def _make(self, publication: Publication) -> TriplesFactory:
        factory = publication.upload.build()
        self._keep(publication.announcement.name, factory)
        return factory

    def _end(self, publication: Publication, failure: Exception | None = None) -> None:
        """Forget a publication that came to nothing."""
        del self._under_way[publication.announcement.name]
        publication.end(failure)
