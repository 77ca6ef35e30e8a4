"""Graphs that clients publish: one upload and one build for all who publish the same."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from negserve_server.access.caller import Caller
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.errors import InvalidInput, Refusal
from negserve_server.graph import TriplesFactory
from negserve_server.logs.audit import audit
from negserve_server.logs.call import asker
from negserve_server.publishing.datasets import Datasets, check_fingerprint
from negserve_server.publishing.publication import Publication
from negserve_server.publishing.publish_quota import PublishQuota
from negserve_server.publishing.upload import Announcement, Upload, size_of


class Publisher:
    """Takes graphs from clients, builds them and adds them to the datasets.

    :param datasets: the graphs that are served
    :param published: names of those among them that clients published
    :param limits: how much may be published
    :param allowed: whether clients may publish
    :param executor: one thread that builds graphs
    :param keep: called in that thread with name and graph: saves it, builds its index, and gives
        the graph to serve
    :param serve: makes a graph that was kept one of the datasets
    :param drop: called with the name of each graph that no longer is one
    :param forget: called with the name of each graph that is not served, to keep it no longer
    :param unused_seconds: seconds since others than this process used a graph
    """

    def __init__(
        self,
        datasets: Datasets,
        published: Iterable[str],
        limits: Limits,
        *,
        allowed: bool,
        executor: Executor,
        keep: Callable[[str, TriplesFactory], TriplesFactory],
        serve: Callable[[str, TriplesFactory], Awaitable[None]],
        drop: Callable[[str], None],
        forget: Callable[[str], None],
        unused_seconds: Callable[[str], float],
    ) -> None:
        self._datasets = datasets
        self._unused_seconds = unused_seconds
        self._quota = PublishQuota(self._idle_seconds, limits)
        self._allowed = allowed
        self._executor = executor
        self._keep = keep
        self._serve = serve
        self._drop = drop
        self._forget = forget
        self._in_progress: dict[str, Publication] = {}
        self._builds: set[asyncio.Task[None]] = set()
        for name in published:
            graph = datasets[name]
            self._quota.add(name, size_of(graph), graph.num_entities + graph.num_relations)

    def is_served(self, announcement: Announcement) -> bool:
        """Tell whether a graph is served.

        :raises Refusal: with ``FINGERPRINT_MISMATCH`` if its name is another graph's
        """
        if announcement.name not in self._datasets:
            return False
        self._datasets.find(announcement.name, announcement.fingerprint)
        self._datasets.note_use(announcement.name)
        return True

    def join(self, announcement: Announcement, caller: Caller) -> Publication:
        """Return the publication of a graph in progress, or begin one.

        :param caller: who announces it
        :raises Refusal: if it is not allowed, does not fit, or its name is another graph's
        """
        publication = self._in_progress.get(announcement.name)
        if publication is not None:
            announced = publication.announcement.fingerprint
            check_fingerprint(announcement.name, announcement.fingerprint, announced)
            return publication
        if not self._allowed:
            raise Refusal(
                f"there is no dataset {announcement.name!r}, and this server does not accept "
                f"graphs from clients; ask its operator for --allow-publish, or to load it with "
                f"--dataset",
                reason="PUBLISH_NOT_ALLOWED",
                value=announcement.name,
            )
        self._quota.check_announced(announcement)
        self._quota.check_own(announcement, caller, self._in_progress.values())
        publication = self._in_progress[announcement.name] = Publication(announcement, caller)
        return publication

    def _idle_seconds(self, name: str) -> float:
        if name not in self._datasets:  # it is being dropped
            return 0.0
        return min(self._datasets.idle_seconds(name), self._unused_seconds(name))

    def withdraw(self, name: str) -> None:
        """Drop a published graph; streams that use it continue."""
        self._quota.remove(name)
        self._drop(name)

    def note_datasets(self) -> None:
        """Count the published graphs that are served now, whoever added or dropped some."""
        for name in [*self._quota]:
            if self._datasets.origin(name) != "published":
                self._quota.remove(name)

    @contextmanager
    def uploading(self, publication: Publication, uploader: ServerStream[Any]) -> Iterator[Upload]:
        """Let one client upload the graph, and build it once it is complete.

        The build continues if the client leaves.

        :param uploader: the stream of the client
        """
        publication.uploader = uploader
        name, total = publication.announcement.name, publication.announcement.total
        audit("publish_begun", "upload of %s begun, %d triples, by %s", name, total, asker())
        begin = time.monotonic()
        try:
            yield publication.upload
        finally:
            if publication.has_room:
                publication.is_building = True
                build = asyncio.ensure_future(self._build(publication, begin))
                self._builds.add(build)
                build.add_done_callback(self._builds.discard)
            elif self._in_progress.get(name) is publication:
                audit(
                    "publish_ended",
                    "upload of %s ended after %d of %d triples, by %s",
                    name,
                    publication.upload.num_received,
                    total,
                    asker(),
                )
                self._end(publication)

    def note_arrival(self, publication: Publication) -> None:
        """Make room for the data received; once that is complete, evict idle graphs if needed.

        :raises Refusal: with ``GRAPH_TOO_LARGE`` if there is no room; all clients that wait for
            the graph get it
        """
        uploads = self._in_progress.values()
        lacking = self._quota.check_arrived(publication, uploads)
        if lacking is not None:
            self._end(publication, lacking)
            raise lacking
        if not publication.upload.is_complete:
            return
        for name in self._quota.clear(publication, uploads):
            audit(
                "dataset_dropped",
                "published dataset %s is dropped for %s: no stream used it for %.0f s",
                name,
                publication.announcement.name,
                self._datasets.idle_seconds(name),
                level=logging.WARNING,
                dataset=name,
            )
            self._drop(name)
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
        announcement = publication.announcement
        taken = self._datasets.get(name)
        if taken is not None:
            # The operator has loaded a graph of that name meanwhile; clients wait for that one.
            self._forget(name)
            try:
                check_fingerprint(name, announcement.fingerprint, taken.fingerprint)
            except InvalidInput as error:
                self._end(publication, error)
            else:
                self._end(publication)
            return
        try:
            await self._serve(name, factory)
        except Exception as error:
            self._forget(name)
            self._end(publication, error)
            return
        self._quota.add(name, announcement.size, announcement.num_ids, publication.caller.name)
        del self._in_progress[name]
        audit(
            "publish_served",
            "published %s: %s, uploaded in %.1f s, built in %.1f s, by %s",
            name,
            factory.summary,
            uploaded - begin,
            time.monotonic() - uploaded,
            asker(),
            dataset=name,
            seconds=round(time.monotonic() - begin, 6),
        )
        publication.end()

    def _make(self, publication: Publication) -> TriplesFactory:
        return self._keep(publication.announcement.name, publication.upload.build())

    def _end(self, publication: Publication, failure: Exception | None = None) -> None:
        """Remove a failed publication."""
        del self._in_progress[publication.announcement.name]
        publication.end(failure)
