"""Replicas at one port of several addresses of loopback, and a name that stands for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.scraping import Scraper, scraped_server

#: A name that no resolver knows (RFC 2606).
NAME = "replicas.test"
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class FakeResolver:
    """Stands for :func:`socket.getaddrinfo`, and alone knows the name.

    :ivar hosts: addresses that the name has
    :ivar num_asked: how often it was asked for the name
    """

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts
        self.num_asked = 0
        self._others = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        """Answer, as the resolver of the system does."""
        if host != NAME:
            return self._others(host, port, *arguments, **options)
        self.num_asked += 1
        if not self.hosts:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer, as the test wants it")
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (each, int(port))) for each in self.hosts]


class Replicated:
    """Servers by their host, all at one port.

    :ivar port: which they share
    :ivar by_host: the last server of each host
    """

    def __init__(self, folder: Path, stack: ExitStack, options: tuple[str, ...]) -> None:
        self._folder = folder
        self._stack = stack
        self._options = options
        self._num_logs = 0
        self.port = 0
        self.by_host: dict[str, Scraper] = {}

    @property
    def target(self) -> str:
        """The name, with the port."""
        return f"{NAME}:{self.port}"

    def start(self, host: str) -> Scraper:
        """Start a server at a host, also in place of one that has ended."""
        self._num_logs += 1
        log = self._folder / f"{self._num_logs}.log"
        listen = (f"{host}:{self.port}",)
        started = self._stack.enter_context(scraped_server(log, *self._options, listen=listen))
        self.port = int(started.server.target.rpartition(":")[2])
        self.by_host[host] = started
        return started

    def negatives(self) -> dict[str, float]:
        """Read how many negatives each server has drawn."""
        return {host: drawn(scraper) for host, scraper in self.by_host.items()}


def drawn(scraper: Scraper) -> float:
    """Read how many negatives a server has drawn."""
    samples = scraper.samples().items()
    return sum(value for (name, _), value in samples if name == "negserve_negatives_total")


@contextmanager
def replicated(folder: Path, *options: str, hosts: tuple[str, ...] = HOSTS) -> Iterator[Replicated]:
    """Run servers at hosts until the block ends."""
    with ExitStack() as stack:
        servers = Replicated(folder, stack, options)
        for host in hosts:
            servers.start(host)
        yield servers
