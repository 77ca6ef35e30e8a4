"""Wiring: load the graphs, warm the kernels, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial

import grpc

from negserve_server.access.callers import Callers
from negserve_server.administration.repository import Repository, log_unreadable
from negserve_server.administration.repository_folder import RepositoryFolder
from negserve_server.administration.server_control import (
    Controlled,
    ServerControl,
    UnloadedStreams,
)
from negserve_server.administration.shared_control import FollowedControl, SharedControl
from negserve_server.administration.shared_datasets import (
    FollowedDatasets,
    SharedDatasets,
    log_changes,
)
from negserve_server.administration.status_reader import StatusReader
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.authentication import Authentication
from negserve_server.admission.scheduler import Scheduler
from negserve_server.config.reading import Reading
from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import MalformedFile, UnusableAddress
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.snapshot_cache import SnapshotCache
from negserve_server.listening.bound_address import bind
from negserve_server.listening.certificates import Certificates
from negserve_server.listening.channel_options import channel_options
from negserve_server.listening.listen_address import parse_listen_address
from negserve_server.listening.reserved_address import ReservedAddress
from negserve_server.process.command import end_at_once
from negserve_server.process.malloc import give_back, keep_freed
from negserve_server.process.progress import show_progress
from negserve_server.process.reloading import Reloading
from negserve_server.process.worker_line import Post, WorkerLine
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.private_folder import PrivateFolder
from negserve_server.publishing.publish_folder import PublishFolder
from negserve_server.service import (
    AdminServicer,
    Health,
    SamplerServicer,
    make_admin_handler,
    make_handler,
    make_health_handler,
    make_reflection_handler,
)
from negserve_server.service.admin_servicer import Administered
from negserve_server.service.publish_relay import PublishRelay
from negserve_server.serving.dataset_changes import DatasetChanges
from negserve_server.serving.exposure import check_exposure
from negserve_server.serving.loading import check_read, load_datasets, load_published
from negserve_server.serving.observation import Observation, StateReader
from negserve_server.serving.shared_snapshots import shared_snapshots
from negserve_server.serving.tracing import Tracing, check_tracing
from negserve_server.tables import Tables
from negserve_server.warm_up import warm_up

logger = logging.getLogger(__name__)

#: At which the worker that takes graphs is reached by the others, in their private folder.
_SOCKET = "publish.socket"


class Server:
    """One server process: loads graphs, serves them at its addresses, and drains at its end.

    Files and addresses are checked at once, before graphs are loaded, which may take minutes.

    :param config: its configuration
    :param reloading: registers files that SIGHUP reads again
    :ivar metrics: what operators are told
    :raises MalformedFile: for an invalid file of tokens or certificates, and a missing file of a
        dataset
    :raises UnusableAddress: if it can't listen on an address
    :raises MissingLibraryError: if calls are to be traced, and the extra ``otel`` is not there
    """

    def __init__(self, config: ServerConfig, reloading: Reloading) -> None:
        self._started_at = time.monotonic()
        if config.tracing:
            check_tracing()
        num_workers = config.workers
        self._is_shared = num_workers > 1
        self._config = config = config.of_worker()
        self._reloading = reloading
        self._has_certificates = config.tls_client_ca is not None
        self._callers: Callers | None = None
        if config.token_file is not None:
            self._callers = Callers(
                config.token_file, num_workers, has_certificates=self._has_certificates
            )
            reloading.add("file of tokens", self._callers.read)
        self._certificates: Certificates | None = None
        if config.tls_cert and config.tls_key:
            self._certificates = Certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
            reloading.add("certificate", self._certificates.read)
        for path in config.datasets.values():
            if path is not None and not path.exists():
                raise MalformedFile(path, None, "no such file or folder")
        if config.reading != Reading():
            check_read(config.datasets)
        self._repository_folder: RepositoryFolder | None = None
        if config.repository is not None:
            self._repository_folder = RepositoryFolder(config.repository)
            given_twice = sorted({*self._repository_folder.names()} & {*config.datasets})
            if given_twice:
                raise ValueError(
                    f"two datasets of one name: {', '.join(given_twice)} of --dataset, also in "
                    f"{config.repository}; rename one of them"
                )
        takes_anybody = self._callers is None or self._callers.anybody is not None
        self._addresses = [parse_listen_address(text) for text in config.listen]
        for number, address in enumerate(self._addresses):
            for other in self._addresses[:number]:
                if address.overlaps(other):
                    raise UnusableAddress(
                        address.text, f"it overlaps with {other.text}; remove one of them"
                    )
            address.check()
            check_exposure(address, config, takes_anybody=takes_anybody)
        self._reserved = [ReservedAddress(each) for each in self._addresses if self._is_shared]
        if self._is_shared:
            self._addresses = [each.address for each in self._reserved]
        self._cache = SnapshotCache(config.cache_dir) if config.cache_dir else None
        takes_graphs = self._is_shared and config.allow_publish
        self._private = PrivateFolder() if takes_graphs else None
        self._folder: PublishFolder | None = None
        if config.publish_dir is not None:
            self._folder = PublishFolder(config.publish_dir)
        elif self._private is not None:
            self._folder = PublishFolder(self._private.path / "published")
        limits = config.limits
        self._tables = Tables(limits.max_table_bytes, limits.table_keep_seconds)
        self._datasets = Datasets({})
        self._observation = Observation(config, self._addresses, is_shared=self._is_shared)
        self.metrics = self._observation.metrics
        self._admission = AdmissionControl(
            limits, metrics=self.metrics, has_access_log=config.access_log
        )
        # A separate thread: a build of minutes must not delay sampling.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._reloads: set[asyncio.Task[None]] = set()

    def load(self) -> None:
        """Load the graphs; for several workers, in memory that they share once they are forked.

        :raises MalformedFile: for a file that is not a graph
        """
        options = ReadOptions(**asdict(self._config.reading))
        if self._is_shared:
            with shared_snapshots(self._config.datasets, self._cache, options) as snapshots:
                self._take(load_datasets(snapshots))
        else:
            self._take(load_datasets(self._config.datasets, self._cache, options))
        if self._folder is not None:
            with show_progress("loading published graphs"):
                published = load_published(self._folder, self._datasets)
            for name, factory in published.items():
                factory.keep_tables_in(self._tables)
                self._datasets.add(name, factory, "published")
        if self._is_shared:
            with show_progress("preparing datasets"):
                warm_up(self._datasets)

    def shared_control(self) -> SharedControl:
        """Load the repository, and give what decides what all workers do together.

        :raises MalformedFile: if the repository can't be read
        """
        shared = SharedDatasets(
            self._datasets, self._repository_folder, self._folder, self._changes().prepare
        )
        with show_progress("loading the repository"):
            shared.load_repository()
        return SharedControl(shared, self._admission, self._started_at)

    def close(self) -> None:
        """Remove what is kept for workers only."""
        self._observation.close()
        if self._private is not None:
            self._private.close()

    def _changes(self) -> DatasetChanges:
        return DatasetChanges(
            self._config,
            self._datasets,
            self._folder,
            self._repository_folder,
            self._tables,
            self._builder,
            UnloadedStreams(self._admission),
        )

    def _take(self, graphs: Mapping[str, TriplesFactory]) -> None:
        for factory in graphs.values():
            factory.keep_tables_in(self._tables)
        self._datasets = Datasets(graphs)

    async def serve(
        self, on_listening: Callable[[list[str]], None], post: Post | None = None
    ) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second SIGINT ends the process.

        Before it listens, both signals end the process at once.

        :param on_listening: called with the addresses, free ports filled in, once every
            kernel is compiled and health says SERVING
        :param post: of a worker; None for a server of one process
        :raises UnusableAddress: if an address is not available any more
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        scheduler = Scheduler(self._config.threads)
        # No client is connected yet, so compiling threads need not end.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, end_at_once)

        with show_progress("preparing datasets"):
            await loop.run_in_executor(self._builder, warm_up, self._datasets)
        tracing = Tracing() if self._config.tracing else None
        interceptors = [
            *(() if tracing is None else tracing.interceptors),
            Authentication(
                self._callers,
                has_certificates=self._has_certificates,
                metrics=self.metrics,
                has_access_log=self._config.access_log,
            ),
        ]
        server = grpc.aio.server(
            interceptors=interceptors,
            options=channel_options(
                self._config.limits,
                self._config.connection_idle_seconds,
                is_shared=self._is_shared,
            ),
        )
        health = Health(self._datasets, lambda: self._admission.is_drained)

        changes = self._changes()
        repository: Repository | None = None
        relay: PublishRelay | None = None
        line: WorkerLine | None = None
        followed: FollowedDatasets | None = None
        administered: Administered
        if post is None:
            repository, publisher = changes.alone(health)
            with show_progress("loading the repository"):
                await repository.reload()
            administered = repository
        else:
            line = WorkerLine(post.line)
            followed, publisher = changes.following(health, line)
            administered = followed
            if self._private is not None and post.number > 1:
                relay = PublishRelay(f"unix:{self._private.short_path}/{_SOCKET}")
        servicer = SamplerServicer(
            self._datasets,
            publisher,
            self._config.limits,
            scheduler,
            (0, 1) if post is None else (post.number - 1, post.num_workers),
            allow_pull=self._config.allow_pull,
            metrics=self.metrics,
        )
        state = StateReader(
            self._config.limits,
            self._admission,
            scheduler,
            servicer.send_budget,
            self._tables,
            self._datasets,
        )
        own = ServerControl(
            StatusReader(
                state.read,
                self._admission,
                started_at=self._started_at,
                is_shared=self._is_shared,
            ),
            self._admission,
            health.note_change,
        )
        control: Controlled = own
        if line is not None and followed is not None:
            control = shared = FollowedControl(own, followed, line.ask)
            await line.start(shared.follow)
        has_admin = self._callers is not None
        handlers = [
            make_handler(servicer, self._admission, relay),
            make_health_handler(health, self._admission),
        ]
        if not self._config.no_reflection:
            handlers.append(make_reflection_handler(self._admission, has_admin=has_admin))
        if has_admin:
            servicer_of_admins = AdminServicer(administered, control)
            handlers.append(make_admin_handler(servicer_of_admins, self._admission))
        server.add_generic_rpc_handlers(handlers)
        # Existing objects stay. The garbage collector must not scan them again, which stopped every
        # stream for 50 ms.
        gc.collect()
        gc.freeze()
        keep_freed()
        addresses = [
            bind(server, each, self._certificates, is_reserved=self._is_shared)
            for each in self._addresses
        ]
        if self._private is not None and post is not None and post.number == 1:
            (self._private.path / _SOCKET).unlink(missing_ok=True)
            server.add_insecure_port(f"unix:{self._private.short_path}/{_SOCKET}")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, loop, stop)
        on_sighup = partial(self._on_sighup, loop, stop, repository)
        loop.add_signal_handler(signal.SIGHUP, on_sighup)
        if self._reloading.is_due:
            on_sighup()
        await server.start()
        tasks = [self._admission.sweep(), self._drop_idle_tables()]
        if post is not None:
            tasks.append(changes.note_uses())
        tasks.append(self._observation.run(state, control, self._datasets))
        background = [asyncio.create_task(each) for each in tasks]
        on_listening(addresses)
        try:
            await stop.wait()
            logger.info("draining: %d open streams", len(self._admission))
            health.drain()
            deadline = loop.time() + self._config.drain_seconds
            await self._admission.drain(self._config.drain_seconds)
            await server.stop(max(deadline - loop.time(), 0.0))
        finally:
            for task in background:
                task.cancel()
            self.metrics.flush()
            scheduler.close()
            self._builder.shutdown(cancel_futures=True)
            if tracing is not None:
                await loop.run_in_executor(None, tracing.close)
        logger.info("stopped")

    async def _drop_idle_tables(self) -> None:
        """Drop idle tables; runs until cancelled."""
        loop = asyncio.get_running_loop()
        period = min(max(self._tables.keep_seconds / 4, 0.1), 1.0)
        num_bytes = 0
        while True:
            await asyncio.sleep(period)
            self._tables.drop_idle()
            # Tables are also freed with their last stream.
            before, num_bytes = num_bytes, self._tables.num_bytes
            if num_bytes < before:
                await loop.run_in_executor(None, give_back)

    def _on_sighup(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: asyncio.Event,
        repository: Repository | None,
    ) -> None:
        if self._reloading.has_lost_terminal:
            logger.info("the terminal has hung up")
            _stop(loop, stop)
        elif not stop.is_set():
            task = loop.create_task(self._reload(repository))
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def _reload(self, repository: Repository | None) -> None:
        """Read files and the repository again; that of workers is their supervisor's."""
        await asyncio.get_running_loop().run_in_executor(None, self._reloading.read)
        if repository is None:
            return
        try:
            changes = await repository.reload()
        except MalformedFile as error:
            log_unreadable(error)
            return
        if self._repository_folder is not None:
            log_changes(changes)


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Begin to drain. Another Ctrl-C ends the process, even if the event loop is blocked."""
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, end_at_once)
