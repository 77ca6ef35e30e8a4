"""The port for scrapers: what it answers, and that nobody harms the server there."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from negserve import Client
from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import UnusableAddress
from negserve_server.metrics.scrape_server import MOST_CONNECTIONS
from negserve_server.process.reloading import Reloading
from negserve_server.serving.server import Server
from tests.support.preloaded import run
from tests.support.scraping import Scraper, scraped_server


@pytest.fixture(scope="module")
def scraper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraper]:
    log: Path = tmp_path_factory.mktemp("metrics") / "log"
    with scraped_server(log) as scraper:
        yield scraper


def ask(scraper: Scraper, method: str, path: str, accept: str = "") -> http.client.HTTPResponse:
    place = urlsplit(scraper.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    connection.request(method, path, headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_the_index_links_to_the_metrics(scraper: Scraper):
    answer = ask(scraper, "GET", "/")
    assert answer.status == 200
    assert b'href="/metrics"' in answer.body  # type: ignore[attr-defined]


def test_other_paths_and_methods_are_refused(scraper: Scraper):
    assert ask(scraper, "GET", "/other").status == 404
    assert ask(scraper, "POST", "/metrics").status == 405


def test_openmetrics_is_answered_to_those_who_accept_it(scraper: Scraper):
    answer = ask(scraper, "GET", "/metrics", "application/openmetrics-text; version=1.0.0")
    assert (answer.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")  # type: ignore[attr-defined]


def test_scrapers_that_send_nothing_keep_nobody_out(scraper: Scraper):
    place = urlsplit(scraper.url)
    silent = [
        socket.create_connection((place.hostname, place.port or 0))
        for _ in range(3 * MOST_CONNECTIONS)
    ]
    assert "negserve_build_info" in scraper.text()
    with Client(scraper.server.target) as client:
        client.server_info()
    for each in silent:
        each.close()


def test_a_server_without_the_option_has_no_port_and_counts_nothing():
    server = Server(ServerConfig(listen=("127.0.0.1:0",)), Reloading())
    assert type(server.metrics).__module__ == "negserve_server.metrics.server_metrics"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nonsense", "HOST:PORT"),
        ("unix:/tmp/metrics", "does not scrape unix sockets"),
        ("127.0.0.1:7799", "a port of its own"),
    ],
)
def test_an_address_that_nobody_can_scrape_is_refused(address: str, why: str):
    config = ServerConfig(listen=("127.0.0.1:7799",), metrics_listen=address)
    with pytest.raises(UnusableAddress, match=why):
        Server(config, Reloading())


def test_a_port_that_another_process_has_ends_the_start():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(
            ["-m", "negserve_server.cli", "serve", "--listen", "127.0.0.1:0",
             "--metrics-listen", f"127.0.0.1:{port}"],
            timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"another process has port {port}" in done.stderr


def test_a_server_that_everybody_reaches_warns(tmp_path: Path):
    with scraped_server(tmp_path / "log", "--metrics-listen", "0.0.0.0:0"):
        log = (tmp_path / "log").read_text()
        assert "gives metrics to everybody who reaches it" in log
