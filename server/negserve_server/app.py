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
from pathlib import Path

import grpc

from negserve_server.admission.authentication import Authentication
from negserve_server.admission.channel_options import channel_options
from negserve_server.admission.streams import OpenStreams
from negserve_server.admission.tokens import Tokens
from negserve_server.admission.turns import Turns
from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import MalformedFile, Refusal, UnusableAddress
from negserve_server.graph import TriplesFactory
from negserve_server.listen_address import ListenAddress, parse_listen_address
from negserve_server.process.c_memory import give_back, keep_freed
from negserve_server.process.command import end_at_once
from negserve_server.process.progress import saying
from negserve_server.process.reloading import Reloading
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publications import Publications
from negserve_server.publishing.publish_folder import PublishFolder
from negserve_server.service import (
    Health,
    SamplerServicer,
    make_handler,
    make_health_handler,
    make_reflection_handler,
)
from negserve_server.tables import Tables
from negserve_server.tls import Certificates
from negserve_server.warm_up import prepare, warm_up

logger = logging.getLogger(__name__)


def load_datasets(paths: Mapping[str, Path | None]) -> dict[str, TriplesFactory]:
    """Load all datasets.

    :param paths: a path by name; None for the embedded graph
    :raises MalformedFile: naming file, line and reason
    """
    datasets = {}
    for name, path in paths.items():
        begin = time.monotonic()
        with saying(f"loading dataset {name}"):
            factory = TriplesFactory.world() if path is None else TriplesFactory.from_path(path)
        datasets[name] = factory
        logger.info("dataset %s: %s, %.1f s", name, factory.summary, time.monotonic() - begin)
    return datasets


def load_published(
    folder: PublishFolder, datasets: Mapping[str, TriplesFactory]
) -> dict[str, TriplesFactory]:
    """Load the graphs that were published before.

    :param datasets: those that the operator gives; where both are the same graph, theirs is it
    :raises MalformedFile: for a file that holds no graph, or another one of a name given
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
    """One server process: datasets in memory, an address or several, an orderly end.

    What is wrong with its files and addresses is said at once, before graphs are loaded, which
    may take minutes.

    :param config: what to serve and where
    :param reloading: what SIGHUP does
    :raises MalformedFile: for a file of tokens or certificates that is none, and a dataset's file
        that is not there
    :raises UnusableAddress: if it can't listen somewhere
    """

    def __init__(self, config: ServerConfig, reloading: Reloading) -> None:
        self._config = config
        self._reloading = reloading
        self._tokens = Tokens(config.token_file) if config.token_file else None
        if self._tokens is not None:
            reloading.add("file of tokens", self._tokens.read)
        self._certificates: Certificates | None = None
        if config.tls_cert and config.tls_key:
            self._certificates = Certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
            reloading.add("certificate", self._certificates.read)
        for path in config.datasets.values():
            if path is not None and not path.exists():
                raise MalformedFile(path, None, "there is no such file or folder")
        self._addresses = [parse_listen_address(text) for text in config.listen]
        for number, address in enumerate(self._addresses):
            for other in self._addresses[:number]:
                if address.overlaps(other):
                    raise UnusableAddress(
                        address.text, f"{other.text} is given, too; leave one of them out"
                    )
            address.check()
            self._warn_of_strangers(address)
        self._folder = PublishFolder(config.publish_dir) if config.publish_dir else None
        self._published: dict[str, TriplesFactory] = {}
        limits = config.limits
        self._tables = Tables(limits.max_table_bytes, limits.table_keep_seconds)
        self._datasets = Datasets({})
        self._streams = OpenStreams(limits, by_token=self._tokens is not None)
        self._turns = Turns(config.threads)
        # A thread of its own: a build of minutes must not hold up those who sample.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build")

    def load(self) -> None:
        """Load the graphs.

        :raises MalformedFile: for a file that holds no graph
        """
        datasets = load_datasets(self._config.datasets)
        if self._folder is not None:
            with saying("loading published graphs"):
                self._published = load_published(self._folder, datasets)
        for factory in (*datasets.values(), *self._published.values()):
            factory.keep_tables_in(self._tables)
        self._datasets = Datasets({**datasets, **self._published})

    async def serve(self, on_listening: Callable[[list[str]], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain, which another SIGINT ends.

        Before it serves, both end the process at once.

        :param on_listening: called with the addresses, free ports filled in, once every
            kernel is compiled and health says SERVING
        :raises UnusableAddress: if an address can't be had any more
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        # Nobody is served yet: the threads that compile are not waited for.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, end_at_once)

        with saying("preparing datasets"):
            await loop.run_in_executor(self._builder, warm_up, self._datasets)
        interceptors = [Authentication(self._tokens)] if self._tokens else []
        server = grpc.aio.server(
            interceptors=interceptors, options=channel_options(self._config.limits)
        )
        health = Health(self._datasets)

        def discard(name: str) -> None:
            health.note_change()
            if self._folder is not None:
                self._builder.submit(self._remove, self._folder, name)

        publications = Publications(
            self._datasets,
            self._published,
            self._config.limits,
            allowed=self._config.allow_publish,
            executor=self._builder,
            keep=self._keep,
            announce=health.note_change,
            discard=discard,
        )
        servicer = SamplerServicer(self._datasets, publications, self._config.limits, self._turns)
        server.add_generic_rpc_handlers(
            (
                make_handler(servicer, self._streams),
                make_health_handler(health, self._streams),
                make_reflection_handler(self._streams),
            )
        )
        # What is there by now stays: the garbage collector need not look at it again, which held
        # up every stream for 50 ms.
        gc.collect()
        gc.freeze()
        keep_freed()
        addresses = [_bind(server, each, self._certificates) for each in self._addresses]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, loop, stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up, loop, stop)
        if self._reloading.is_due:
            self._hang_up(loop, stop)
        await server.start()
        sweeper = asyncio.create_task(self._streams.sweep())
        table_sweeper = asyncio.create_task(self._drop_idle_tables())
        on_listening(addresses)
        try:
            await stop.wait()
            logger.info("draining: %d open streams", len(self._streams))
            health.drain()
            deadline = loop.time() + self._config.drain_seconds
            await self._streams.drain(self._config.drain_seconds)
            await server.stop(max(deadline - loop.time(), 0.0))
        finally:
            sweeper.cancel()
            table_sweeper.cancel()
            self._turns.close()
            self._builder.shutdown(cancel_futures=True)
        logger.info("stopped")

    async def _drop_idle_tables(self) -> None:
        """Drop, for ever, tables that no stream has used for a while."""
        loop = asyncio.get_running_loop()
        period = min(max(self._tables.keep_seconds / 4, 0.1), 1.0)
        num_bytes = 0
        while True:
            await asyncio.sleep(period)
            self._tables.drop_idle()
            # Tables also go by themselves, with their last stream.
            before, num_bytes = num_bytes, self._tables.num_bytes
            if num_bytes < before:
                await loop.run_in_executor(None, give_back)

    def _hang_up(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        if self._reloading.has_lost_terminal:
            logger.info("the terminal is gone")
            _stop(loop, stop)
        else:
            loop.run_in_executor(None, self._reloading.read)

    def _warn_of_strangers(self, address: ListenAddress) -> None:
        """Say so where anybody may call, or read what is said."""
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
        elif config.tls_client_ca is None:
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
        if name not in self._datasets:  # else it was published again meanwhile
            try:
                folder.remove(name)
            except OSError as error:
                logger.warning("dataset %s is back at the next start: %s", name, error)

    def _keep(self, name: str, factory: TriplesFactory) -> None:
        factory.keep_tables_in(self._tables)
        prepare(factory)
        if self._folder is not None:
            try:
                self._folder.save(name, factory)
            except OSError as error:
                logger.error("published dataset %s can't be kept: %s", name, error)
                raise Refusal(
                    f"the server can't write the graph down: {error.strerror or error}; its "
                    f"operator must make room in the folder of published graphs, or mend it",
                    reason="STORAGE_FAILED",
                    value=error.strerror or error,
                ) from error


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Begin to drain, which one more Ctrl-C ends, also where the loop stands still."""
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, end_at_once)


def _bind(
    server: grpc.aio.Server, address: ListenAddress, certificates: Certificates | None
) -> str:
    """Bind an address and give it with the port that was really taken."""
    address.check()  # once more: loading may have taken minutes
    try:
        if certificates is None or address.path:
            port = server.add_insecure_port(address.text)
        else:
            port = server.add_secure_port(address.text, certificates.credentials())
    except RuntimeError as error:
        raise UnusableAddress(address.text, str(error)) from error
    return address.text if address.path else f"{address.text.rpartition(':')[0]}:{port}"
