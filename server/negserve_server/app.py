"""Wiring: load the graphs, warm the kernels, serve, drain."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from negserve_server.command import end_at_once
from negserve_server.config import ServerConfig
from negserve_server.errors import InvalidInput, MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.publish_folder import PublishFolder
from negserve_server.process_limits import give_back
from negserve_server.service import (
    Authentication,
    Datasets,
    Health,
    OpenStreams,
    Publications,
    SamplerServicer,
    Tokens,
    Turns,
    make_handler,
    make_health_handler,
    make_reflection_handler,
)
from negserve_server.service.limits import MAX_REQUEST_BYTES
from negserve_server.tables import Tables
from negserve_server.tls import server_credentials
from negserve_server.warm_up import prepare, warm_up

logger = logging.getLogger(__name__)

_CHANNEL_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a lottery
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


def load_datasets(paths: Mapping[str, Path | None]) -> dict[str, TriplesFactory]:
    """Load all datasets.

    :param paths: a path by name; None for the embedded graph
    :raises MalformedFile: naming file, line and reason
    """
    datasets = {}
    for name, path in paths.items():
        begin = time.monotonic()
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

    :param config: what to serve and where
    :param datasets: the loaded graphs, by name
    :raises MalformedFile: for a file of tokens, certificates or published graphs that is none
    """

    def __init__(self, config: ServerConfig, datasets: Mapping[str, TriplesFactory]) -> None:
        self._config = config
        self._tokens = Tokens(config.token_file) if config.token_file else None
        self._credentials: grpc.ServerCredentials | None = None
        if config.tls_cert and config.tls_key:
            self._credentials = server_credentials(
                config.tls_cert, config.tls_key, config.tls_client_ca
            )
        self._folder = PublishFolder(config.publish_dir) if config.publish_dir else None
        self._published = load_published(self._folder, datasets) if self._folder else {}
        limits = config.limits
        self._tables = Tables(limits.max_table_bytes, limits.table_keep_seconds)
        for factory in (*datasets.values(), *self._published.values()):
            factory.keep_tables_in(self._tables)
        self._datasets = Datasets({**datasets, **self._published})
        self._streams = OpenStreams(config.limits, by_token=self._tokens is not None)
        self._turns = Turns(config.threads)
        # A thread of its own: a build of minutes must not hold up those who sample.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build")

    async def serve(self, on_listening: Callable[[list[str]], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain, which another SIGINT ends.

        Before it serves, both end the process at once.

        :param on_listening: called with the addresses, free ports filled in, once every
            kernel is compiled and health says SERVING
        :raises OSError: if an address can't be had
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        # Nobody is served yet: the threads that compile are not waited for.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, end_at_once)

        await loop.run_in_executor(self._builder, warm_up, self._datasets)
        interceptors = [Authentication(self._tokens)] if self._tokens else []
        server = grpc.aio.server(interceptors=interceptors, options=_CHANNEL_OPTIONS)
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
        addresses = [_bind(server, address, self._credentials) for address in self._config.listen]
        if self._tokens is not None and self._credentials is None:
            for address in addresses:
                _warn_of_plain_text(address)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, loop, stop)
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
                raise InvalidInput(
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


def _answers(path: str) -> bool:
    """Tell whether somebody listens on a unix socket; a file left behind does not answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _warn_of_plain_text(address: str) -> None:
    """Say so where tokens may pass a network that anybody reads."""
    if address.startswith("unix:"):
        return
    host = address.rpartition(":")[0].strip("[]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        logger.warning(
            "%s takes tokens in plain text: who can read the network can read them, and use them. "
            "Give --tls-cert and --tls-key, or let only a proxy with TLS reach it",
            address,
        )


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    """Bind an address and give it with the port that was really taken."""
    if address.startswith("unix:") and _answers(address.removeprefix("unix:")):
        # grpc would take the path away from the server that listens there.
        raise OSError(f"can't listen on {address}: another server does; stop it first")
    try:
        if credentials is None or address.startswith("unix:"):
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(
            f"can't listen on {address}: {error}; is another server there already?"
        ) from error
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"
