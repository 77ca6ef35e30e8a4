"""Graphs that clients publish: one upload and one build for all who publish the same."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory
from negserve_server.graph.upload import Announcement, Upload, size_of
from negserve_server.service.datasets import Datasets, check_fingerprint
from negserve_server.service.limits import Limits

logger = logging.getLogger(__name__)


class Publication:
    """One graph on its way, from its announcement until it is served or given up.

    :ivar announcement: which graph
    :ivar upload: what has come of it
    :ivar has_uploader: whether a client sends its triples
    :ivar is_building: whether all have come
    """

    def __init__(self, announcement: Announcement) -> None:
        self.announcement = announcement
        self.upload = Upload(announcement)
        self.has_uploader = False
        self.is_building = False
        self._over = asyncio.Event()
        self._failure: Exception | None = None

    def end(self, failure: Exception | None = None) -> None:
        """Wake all who wait."""
        self._failure = failure
        self._over.set()

    async def wait(self, seconds: float, is_mine: bool) -> None:
        """Wait until it is over, one way or the other, or the time is.

        :param is_mine: whether the caller sent the triples, and is told what is wrong with them
        :raises Exception: what made the server fail
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        if self._failure is not None and (is_mine or not isinstance(self._failure, InvalidInput)):
            raise self._failure


class Publications:
    """Keeps account of the published graphs, and of those under way.

    :param datasets: where they are added to
    :param published: names of those among them that were published before
    :param limits: how much may be published
    :param allowed: whether anything may
    :param executor: one thread that builds, apart from those that draw
    :param keep: called there with name and graph: builds its index, and writes it down
    :param announce: called with the name of each graph that is served from now on
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
        announce: Callable[[str], Awaitable[None]],
        discard: Callable[[str], None],
    ) -> None:
        self._datasets = datasets
        self._limits = limits
        self._allowed = allowed
        self._executor = executor
        self._keep = keep
        self._announce = announce
        self._discard = discard
        self._under_way: dict[str, Publication] = {}
        self._builds: set[asyncio.Task[None]] = set()
        #: Triples, type constraints and labels among them, and ids of each graph, published or
        #: under way.
        self._sizes: dict[str, tuple[int, int]] = {}
        for name in published:
            graph = datasets[name]
            self._sizes[name] = size_of(graph), graph.num_entities + graph.num_relations

    def is_served(self, announcement: Announcement) -> bool:
        """Tell whether a graph is there.

        :raises InvalidInput: with ``FINGERPRINT_MISMATCH`` if its name is another graph's
        """
        if announcement.name not in self._datasets:
            return False
        self._datasets.find(announcement.name, announcement.fingerprint)
        self._datasets.note_use(announcement.name)
        return True

    def join(self, announcement: Announcement) -> Publication:
        """Give the publication of a graph that is not there; begin it if none is under way.

        :raises InvalidInput: if it is not allowed, does not fit, or its name is another graph's
        """
        publication = self._under_way.get(announcement.name)
        if publication is not None:
            underway = publication.announcement.fingerprint
            check_fingerprint(announcement.name, announcement.fingerprint, underway)
            return publication
        if not self._allowed:
            raise InvalidInput(
                f"there is no dataset {announcement.name!r}, and this server takes none from "
                f"clients; ask its operator for --allow-publish, or to load it with --dataset",
                reason="PUBLISH_NOT_ALLOWED",
                value=announcement.name,
            )
        self._make_room(announcement)
        publication = self._under_way[announcement.name] = Publication(announcement)
        self._sizes[announcement.name] = announcement.size, announcement.num_ids
        return publication

    def _make_room(self, announcement: Announcement) -> None:
        """Let idle graphs give way, the one idle for the longest first, as far as it takes.

        :raises InvalidInput: if there is no room even so; then none gives way
        """
        given_up: list[str] = []
        for name in self._idle():
            if self._lacking(announcement, given_up) is None:
                break
            given_up.append(name)
        lacking = self._lacking(announcement, given_up)
        if lacking is not None:
            raise lacking
        for name in given_up:
            logger.warning(
                "published dataset %s gives way to %s: no stream was about it for %.0f s",
                name,
                announcement.name,
                self._datasets.idle_seconds(name),
            )
            self._datasets.remove(name)
            del self._sizes[name]
            self._discard(name)

    def _idle(self) -> list[str]:
        """Name the published graphs that may give way, the one idle for the longest first."""
        idle = {
            name: self._datasets.idle_seconds(name)
            for name in self._sizes
            if name not in self._under_way
        }
        limit = self._limits.publish_keep_seconds
        return sorted((name for name in idle if idle[name] > limit), key=lambda name: -idle[name])

    def _lacking(self, announcement: Announcement, given_up: list[str]) -> InvalidInput | None:
        """Say what a graph has no room for, once others have given way; None if it fits."""
        sizes = [size for name, size in self._sizes.items() if name not in given_up]
        for field, value, used, limit in (
            ("graphs", 1, len(sizes), self._limits.max_publish_graphs),
            (
                "triples",
                announcement.size,
                sum(triples for triples, _ in sizes),
                self._limits.max_publish_triples,
            ),
            (
                "ids",
                announcement.num_ids,
                sum(ids for _, ids in sizes),
                self._limits.max_publish_ids,
            ),
        ):
            left = max(0, limit - used)
            if value > left:
                return InvalidInput(
                    f"{field} is {value}, there is room for {left}: the server takes {limit} of "
                    f"all published graphs together, and the others were used within "
                    f"{self._limits.publish_keep_seconds:g} seconds. Try again later, or ask its "
                    f"operator to raise --max-publish-{field}, or to load the graph with --dataset",
                    reason="GRAPH_TOO_LARGE",
                    field=field,
                    value=value,
                    limit=left,
                )
        return None

    @contextmanager
    def uploading(self, publication: Publication) -> Iterator[Upload]:
        """Let one client send the triples; if they are complete in the end, build the graph.

        The build is the server's: it goes on if the client leaves.
        """
        publication.has_uploader = True
        begin = time.monotonic()
        try:
            yield publication.upload
        finally:
            if publication.upload.is_complete:
                publication.is_building = True
                build = asyncio.ensure_future(self._build(publication, begin))
                self._builds.add(build)
                build.add_done_callback(self._builds.discard)
            else:
                logger.info(
                    "upload of %s given up after %d of %d triples",
                    publication.announcement.name,
                    publication.upload.num_received,
                    publication.announcement.total,
                )
                self._end(publication)

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
        del self._under_way[name]
        logger.info(
            "published %s: %s, uploaded in %.1f s, built in %.1f s",
            name,
            factory.summary,
            uploaded - begin,
            time.monotonic() - uploaded,
        )
        try:
            await self._announce(name)
        finally:
            publication.end()

    def _make(self, publication: Publication) -> TriplesFactory:
        factory = publication.upload.build()
        self._keep(publication.announcement.name, factory)
        return factory

    def _end(self, publication: Publication, failure: Exception | None = None) -> None:
        """Forget a publication that came to nothing."""
        del self._under_way[publication.announcement.name]
        del self._sizes[publication.announcement.name]
        publication.end(failure)
