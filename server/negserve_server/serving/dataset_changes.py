"""What changes the datasets of a running server: uploads, its repository, a supervisor."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from negserve_server.administration.repository import Repository
from negserve_server.administration.repository_folder import RepositoryFolder
from negserve_server.administration.shared_datasets import FollowedDatasets
from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import MalformedSnapshot, Refusal
from negserve_server.graph import TriplesFactory
from negserve_server.process.worker_line import WorkerLine
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publish_folder import PublishFolder
from negserve_server.publishing.publisher import Publisher
from negserve_server.service import Health
from negserve_server.tables import Tables
from negserve_server.warm_up import prepare

logger = logging.getLogger(__name__)

#: How often workers leave word which published graphs are in use.
_USE_SECONDS = 0.25


class DatasetChanges:
    """Makes what changes the datasets of a process.

    :param config: of the process
    :param datasets: those that it serves
    :param folder: keeps published graphs; None for nothing but memory
    :param repository_folder: the operator's snapshots; None for none
    :param tables: bounds the tables of all graphs
    :param builder: runs what takes long
    :param leave: as of :class:`.Repository`
    """

    def __init__(
        self,
        config: ServerConfig,
        datasets: Datasets,
        folder: PublishFolder | None,
        repository_folder: RepositoryFolder | None,
        tables: Tables,
        builder: Executor,
        leave: Callable[[str, bool], int],
    ) -> None:
        self._leave = leave
        self._config = config
        self._datasets = datasets
        self._folder = folder
        self._repository_folder = repository_folder
        self._tables = tables
        self._builder = builder

    def alone(self, health: Health) -> tuple[Repository, Publisher]:
        """Make what changes the datasets of a server of one process."""

        def drop(name: str) -> None:
            self._datasets.remove(name)
            health.note_change()
            forget(name)

        def forget(name: str) -> None:
            if self._folder is not None:
                self._builder.submit(self._remove, self._folder, name)

        async def serve(name: str, factory: TriplesFactory) -> None:
            self._datasets.add(name, factory, "published")
            health.note_change()

        publisher = self._publisher(serve, drop, forget, lambda _: math.inf)
        repository = Repository(
            self._repository_folder,
            self._datasets,
            executor=self._builder,
            prepare=self.prepare,
            announce=health.note_change,
            withdraw=publisher.withdraw,
            leave=self._leave,
        )
        return repository, publisher

    def following(self, health: Health, line: WorkerLine) -> tuple[FollowedDatasets, Publisher]:
        """Make what changes the datasets of a worker, together with those of all others."""
        tasks: set[asyncio.Task[None]] = set()

        def drop(name: str) -> None:
            task = asyncio.create_task(followed.withdraw(name))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        def forget(name: str) -> None:
            if self._folder is not None:
                self._builder.submit(self._remove, self._folder, name)

        async def serve(name: str, _: TriplesFactory) -> None:
            await followed.publish(name)

        def announce() -> None:
            publisher.note_datasets()
            health.note_change()

        folder = self._folder
        publisher = self._publisher(
            serve, drop, forget, folder.unused_seconds if folder is not None else lambda _: 0.0
        )
        followed = FollowedDatasets(
            self._datasets,
            line.ask,
            prepare=self.prepare,
            announce=announce,
            leave=self._leave,
        )
        return followed, publisher

    def _publisher(
        self,
        serve: Callable[[str, TriplesFactory], Awaitable[None]],
        drop: Callable[[str], None],
        forget: Callable[[str], None],
        unused_seconds: Callable[[str], float],
    ) -> Publisher:
        return Publisher(
            self._datasets,
            [name for name in self._datasets if self._datasets.origin(name) == "published"],
            self._config.limits,
            allowed=self._config.allow_publish,
            executor=self._builder,
            keep=self._keep,
            serve=serve,
            drop=drop,
            forget=forget,
            unused_seconds=unused_seconds,
        )

    async def note_uses(self) -> None:
        """Leave word for other workers which published graphs are in use; runs until cancelled."""
        folder = self._folder
        while folder is not None:
            for name in self._datasets:
                if self._datasets.origin(name) == "published" and (
                    self._datasets.idle_seconds(name) < 2 * _USE_SECONDS
                ):
                    folder.note_use(name)
            await asyncio.sleep(_USE_SECONDS)

    def _remove(self, folder: PublishFolder, name: str) -> None:
        if self._datasets.origin(name) != "published":  # else it was published again
            folder.forget(name)

    def prepare(self, factory: TriplesFactory) -> None:
        """Make a graph ready to be served."""
        factory.keep_tables_in(self._tables)
        prepare(factory)

    def _keep(self, name: str, factory: TriplesFactory) -> TriplesFactory:
        """Save a published graph, and make it ready to be served; gives the graph to serve."""
        if self._folder is not None:
            try:
                factory = self._folder.save(name, factory)
            except (OSError, MalformedSnapshot) as error:
                logger.error("published dataset %s can't be saved: %s", name, error)
                why = getattr(error, "strerror", None) or error
                raise Refusal(
                    f"the server can't save the graph: {why}; its operator must free space in the "
                    f"folder of published graphs, or repair it",
                    reason="STORAGE_FAILED",
                    value=why,
                ) from error
        self.prepare(factory)
        return factory
