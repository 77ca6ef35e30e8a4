"""The metrics of a running server, as a scraper reads them."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.server_process import ServerProcess, server_process
from tests.support.workers import wait_for

_LINE = re.compile(r"metrics at (http://\S+)")

#: A sample's name, and its labels in order.
Key = tuple[str, tuple[tuple[str, str], ...]]


class Scraper:
    """Reads the metrics of a server.

    :param server: the server
    :param url: where its metrics are
    """

    def __init__(self, server: ServerProcess, url: str) -> None:
        self.server = server
        self.url = url

    def text(self) -> str:
        """Read the page; again if the worker that took the connection was killed."""
        for is_last in (False, False, True):
            try:
                with urllib.request.urlopen(self.url, timeout=20) as answer:
                    body: bytes = answer.read()
                    return body.decode()
            except (ConnectionError, urllib.error.URLError, http.client.HTTPException):
                if is_last:
                    raise
        raise AssertionError

    def samples(self) -> dict[Key, float]:
        """Read all samples."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Read one sample; 0 if there is none."""
        return self.samples().get((name, tuple(sorted(labels.items()))), 0.0)

    def wait(self, wanted: float, name: str, **labels: str) -> None:
        """Wait until a sample has a value; counts are there a moment after the event."""
        until = time.monotonic() + 30
        while (found := self.value(name, **labels)) != wanted:
            assert time.monotonic() < until, f"{name} {labels} is {found}, not {wanted}"
            time.sleep(0.05)


@contextmanager
def scraped_server(
    log: Path,
    *options: str,
    listen: tuple[str, ...] = ("127.0.0.1:0",),
    module: str = "negserve_server.cli",
) -> Iterator[Scraper]:
    """Run a server with metrics until the block ends.

    :param log: a file for what it logs, which it begins
    :param listen: as of :func:`server_process`, and so is module
    """
    metrics = ("--metrics-listen", "127.0.0.1:0")
    with server_process(*metrics, *options, listen=listen, log=log, module=module) as server:
        yield scraper_of(server, log)


def scraper_of(server: ServerProcess, log: Path) -> Scraper:
    """Return what reads the metrics of a server that was started with ``--metrics-listen``."""
    wait_for(lambda: _LINE.search(log.read_text()) is not None, "a port for metrics")
    found = _LINE.search(log.read_text())
    assert found is not None
    return Scraper(server, found[1])
