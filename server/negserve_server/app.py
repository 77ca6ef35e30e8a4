"""Wiring: load the graphs, warm the kernels, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc

from negserve_server.administration.repository import Repository, log_unreadable
from negserve_server.administration.repository_folder import RepositoryFolder
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.authentication import Authentication
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.tokens import Tokens
from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import MalformedFile, Refusal, UnusableAddress
from negserve_server.graph import TriplesFactory
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.graph.snapshot.snapshot_cache import SnapshotCache
from negserve_server.listening.certificates import Certificates
from negserve_server.listening.channel_options import channel_options
from negserve_server.listening.listen_address import ListenAddress, parse_listen_address
from negserve_server.listening.reserved_address import ReservedAddress
from negserve_server.process.command import end_at_once
from negserve_server.process.malloc import give_back, keep_freed
from negserve_server.process.progress import show_progress
from negserve_server.process.reloading import Reloading
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publish_folder import PublishFolder
from negserve_server.publishing.publisher import Publisher
from negserve_server.reading_options import how_made
from negserve_server.service import (
    AdminServicer,
    Health,
    SamplerServicer,
    make_admin_handler,
    make_handler,
    make_health_handler,
    make_reflection_handler,
)
from negserve_server.shared_snapshots import shared_snapshots
from negserve_server.tables import Tables
from negserve_server.warm_up import prepare, warm_up

logger = logging.getLogger(__name__)


def load_datasets(
    paths: Mapping[str, Path | None], cache: SnapshotCache | None = None
) -> dict[str, TriplesFactory]:
    """Load all datasets.

    :param paths: a path by name; None for the embedded graph
    :param cache: where snapshots of graphs are left that were read from files; None for nowhere
    :raises MalformedFile: naming file, line and reason
    """
    datasets = {}
    for name, path in paths.items():
        begin = time.monotonic()
        with show_progress(f"loading dataset {name}") as work:
            if path is None:
                factory = TriplesFactory.world()
            elif cache is None or is_snapshot(path):
                factory = TriplesFactory.from_path(path)
            else:
                parts = cache.get(
                    path,
                    ReadOptions(),
                    partial(_read, path),
                    made=how_made(path, ReadOptions()),
                    progress=work.advance,
                )
                factory = TriplesFactory.from_parts(parts)
        datasets[name] = factory
        logger.info("dataset %s: %s, %.1f s", name, factory.summary, time.monotonic() - begin)
    return datasets


def _read(path: Path) -> GraphParts:
    return TriplesFactory.from_path(path).parts


def load_published(
    folder: PublishFolder, datasets: Mapping[str, TriplesFactory]
) -> dict[str, TriplesFactory]:
    """Load the graphs that clients published before.

    :param datasets: those of the operator, which take precedence over equal published graphs
    :raises MalformedFile: for a file that is not a graph, or another graph than the operator's
        dataset of that name
    """
    published = {}
    for name, factory in folder.load().items():
        given = datasets.get(name)
        if given is None:
            logger.info("published before: %s: %s", name, factory.summary)
            published[name] = factory
        elif given.fingerprint != factory.fingerprint:
            raise MalformedFile(
                folder.path,
                None,
                f"{name!r} was published with fingerprint {factory.fingerprint}, the dataset given "
                f"by that name has {given.fingerprint}; rename the dataset, or remove the file",
            )
    return published


class Server:
    """One server process: loads graphs, serves them at its addresses, and drains at its end.

    Files and addresses are checked at once, before graphs are loaded, which may take minutes.

    :param config: its configuration
    :param reloading: registers files that SIGHUP reads again
    :raises MalformedFile: for an invalid file of tokens or certificates, and a missing file of a
        dataset
    :raises UnusableAddress: if it can't listen on an address
    """

    def __init__(self, config: ServerConfig, reloading: Reloading) -> None:
        self._is_shared = config.workers > 1
        self._config = config = config.of_worker()
        self._reloading = reloading
        self._tokens = Tokens(config.token_file) if config.token_file else None
        if self._tokens is not None:
            reloading.add("file of tokens", self._tokens.read)
        self._admin_tokens = Tokens(config.admin_token_file) if config.admin_token_file else None
        if self._admin_tokens is not None:
            reloading.add("file of administrators' tokens", self._admin_tokens.read)
        self._certificates: Certificates | None = None
        if config.tls_cert and config.tls_key:
            self._certificates = Certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
            reloading.add("certificate", self._certificates.read)
        for path in config.datasets.values():
            if path is not None and not path.exists():
                raise MalformedFile(path, None, "no such file or folder")
        self._repository_folder: RepositoryFolder | None = None
        if config.repository is not None:
            self._repository_folder = RepositoryFolder(config.repository)
            given_twice = sorted({*self._repository_folder.names()} & {*config.datasets})
            if given_twice:
                raise ValueError(
                    f"two datasets of one name: {', '.join(given_twice)} of --dataset, also in "
                    f"{config.repository}; rename one of them"
                )
        self._addresses = [parse_listen_address(text) for text in config.listen]
        for number, address in enumerate(self._addresses):
            for other in self._addresses[:number]:
                if address.overlaps(other):
                    raise UnusableAddress(
                        address.text, f"it overlaps with {other.text}; remove one of them"
                    )
            address.check()
            self._warn_if_exposed(address)
        self._reserved = [ReservedAddress(each) for each in self._addresses if self._is_shared]
        if self._is_shared:
            self._addresses = [each.address for each in self._reserved]
        self._cache = SnapshotCache(config.cache_dir) if config.cache_dir else None
        self._folder = PublishFolder(config.publish_dir) if config.publish_dir else None
        self._published: dict[str, TriplesFactory] = {}
        limits = config.limits
        self._tables = Tables(limits.max_table_bytes, limits.table_keep_seconds)
        self._datasets = Datasets({})
        self._admission = AdmissionControl(limits, by_token=self._tokens is not None)
        # A separate thread: a build of minutes must not delay sampling.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._reloads: set[asyncio.Task[None]] = set()

    def load(self) -> None:
        """Load the graphs; for several workers, in memory that they share once they are forked.

        :raises MalformedFile: for a file that is not a graph
        """
        if self._is_shared:
            with shared_snapshots(self._config.datasets, self._cache) as snapshots:
                self._take(load_datasets(snapshots))
            with show_progress("preparing datasets"):
                warm_up(self._datasets)
            return
        self._take(load_datasets(self._config.datasets, self._cache))
        self.load_published()

    def load_published(self) -> None:
        """Load the graphs that clients published; each worker does, as they are not mapped.

        :raises MalformedFile: for a file that is not a graph
        """
        if self._folder is not None:
            with show_progress("loading published graphs"):
                self._published = load_published(self._folder, self._datasets)
            for name, factory in self._published.items():
                factory.keep_tables_in(self._tables)
                self._datasets.add(name, factory, "published")

    def _take(self, graphs: Mapping[str, TriplesFactory]) -> None:
        for factory in graphs.values():
            factory.keep_tables_in(self._tables)
        self._datasets = Datasets(graphs)

    async def serve(self, on_listening: Callable[[list[str]], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second SIGINT ends the process.

        Before it listens, both signals end the process at once.

        :param on_listening: called with the addresses, free ports filled in, once every
            kernel is compiled and health says SERVING
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
        interceptors = [Authentication(self._tokens, self._admin_tokens)]
        server = grpc.aio.server(
            interceptors=interceptors,
            options=channel_options(self._config.limits, is_shared=self._is_shared),
        )
        health = Health(self._datasets)

        def discard(name: str) -> None:
            health.note_change()
            if self._folder is not None:
                self._builder.submit(self._remove, self._folder, name)

        publisher = Publisher(
            self._datasets,
            self._published,
            self._config.limits,
            allowed=self._config.allow_publish,
            executor=self._builder,
            keep=self._keep,
            announce=health.note_change,
            discard=discard,
        )
        repository = Repository(
            self._repository_folder,
            self._datasets,
            executor=self._builder,
            prepare=self._prepare,
            announce=health.note_change,
            withdraw=publisher.withdraw,
        )
        with show_progress("loading the repository"):
            await repository.reload()
        servicer = SamplerServicer(
            self._datasets,
            publisher,
            self._config.limits,
            scheduler,
            allow_pull=self._config.allow_pull,
        )
        has_admin = self._admin_tokens is not None
        handlers = [
            make_handler(servicer, self._admission),
            make_health_handler(health, self._admission),
            make_reflection_handler(self._admission, has_admin=has_admin),
        ]
        if has_admin:
            admin_servicer = AdminServicer(repository, self._datasets)
            handlers.append(make_admin_handler(admin_servicer, self._admission))
        server.add_generic_rpc_handlers(handlers)
        # Existing objects stay. The garbage collector must not scan them again, which stopped every
        # stream for 50 ms.
        gc.collect()
        gc.freeze()
        keep_freed()
        addresses = [
            _bind(server, each, self._certificates, is_reserved=self._is_shared)
            for each in self._addresses
        ]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, loop, stop)
        on_sighup = partial(self._on_sighup, loop, stop, repository)
        loop.add_signal_handler(signal.SIGHUP, on_sighup)
        if self._reloading.is_due:
            on_sighup()
        await server.start()
        sweeper = asyncio.create_task(self._admission.sweep())
        table_sweeper = asyncio.create_task(self._drop_idle_tables())
        on_listening(addresses)
        try:
            await stop.wait()
            logger.info("draining: %d open streams", len(self._admission))
            health.drain()
            deadline = loop.time() + self._config.drain_seconds
            await self._admission.drain(self._config.drain_seconds)
            await server.stop(max(deadline - loop.time(), 0.0))
        finally:
            sweeper.cancel()
            table_sweeper.cancel()
            scheduler.close()
            self._builder.shutdown(cancel_futures=True)
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
        self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, repository: Repository
    ) -> None:
        if self._reloading.has_lost_terminal:
            logger.info("the terminal has hung up")
            _stop(loop, stop)
        elif not stop.is_set():
            task = loop.create_task(self._reload(repository))
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def _reload(self, repository: Repository) -> None:
        """Read files and the repository again."""
        await asyncio.get_running_loop().run_in_executor(None, self._reloading.read)
        try:
            changes = await repository.reload()
        except MalformedFile as error:
            log_unreadable(error)
            return
        if self._repository_folder is not None:
            counts = Counter(change.action for change in changes)
            found = ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
            logger.info("SIGHUP: datasets of the repository: %s", found or "none")

    def _warn_if_exposed(self, address: ListenAddress) -> None:
        """Warn if anybody may call at an address, or read its traffic."""
        config = self._config
        if address.is_local:
            return
        if config.token_file is not None:
            if config.tls_cert is None:
                logger.warning(
                    "%s takes tokens in plain text: who can read the network can read them, and "
                    "use them. Give --tls-cert and --tls-key, or let only a proxy with TLS reach "
                    "it",
                    address.text,
                )
            return
        if config.admin_token_file is not None and config.tls_cert is None:
            logger.warning(
                "%s takes administrators' tokens in plain text: who can read the network can read "
                "them, and unload datasets. Give --tls-cert and --tls-key, or let only a proxy "
                "with TLS reach it",
                address.text,
            )
        if config.tls_client_ca is None:
            logger.warning(
                "%s answers everybody who reaches it, as there is no --token-file: labels and test "
                "triples can be read%s. Give --token-file, or let only those reach it whom you "
                "trust",
                address.text,
                ", AND EVERYBODY CAN PUBLISH GRAPHS (--allow-publish), up to the limits of memory "
                "and disk, and take their names"
                if config.allow_publish
                else "",
            )

    def _remove(self, folder: PublishFolder, name: str) -> None:
        if self._datasets.origin(name) != "published":  # else it was published again
            try:
                folder.remove(name)
            except OSError as error:
                logger.warning(
                    "dataset %s is served again after a restart, as its file can't be removed: %s",
                    name,
                    error,
                )

    def _prepare(self, factory: TriplesFactory) -> None:
        factory.keep_tables_in(self._tables)
        prepare(factory)

    def _keep(self, name: str, factory: TriplesFactory) -> None:
        self._prepare(factory)
        if self._folder is not None:
            try:
                self._folder.save(name, factory)
            except OSError as error:
                logger.error("published dataset %s can't be saved: %s", name, error)
                raise Refusal(
                    f"the server can't save the graph: {error.strerror or error}; its operator "
                    f"must free space in the folder of published graphs, or repair it",
                    reason="STORAGE_FAILED",
                    value=error.strerror or error,
                ) from error


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Begin to drain. Another Ctrl-C ends the process, even if the event loop is blocked."""
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, end_at_once)


def _bind(
    server: grpc.aio.Server,
    address: ListenAddress,
    certificates: Certificates | None,
    *,
    is_reserved: bool,
) -> str:
    """Bind an address, and return it with its actual port."""
    if not is_reserved:
        address.check()  # again, since loading may have taken minutes
    try:
        if certificates is None or address.path:
            port = server.add_insecure_port(address.text)
        else:
            port = server.add_secure_port(address.text, certificates.credentials())
    except RuntimeError as error:
        raise UnusableAddress(address.text, str(error)) from error
    return address.text if address.path else f"{address.text.rpartition(':')[0]}:{port}"
