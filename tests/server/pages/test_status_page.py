"""The status page: the numbers that a visitor reads, of one process and of two workers."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from negserve import Client
from negserve_server.access.message_times import MessageTimes
from negserve_server.administration.server_control import Controlled
from negserve_server.administration.server_status import DatasetStatus, ServerStatus
from negserve_server.config.server_config import ServerConfig
from negserve_server.pages import server_numbers
from negserve_server.pages.server_numbers import Numbers, ServerNumbers
from negserve_server.pages.status_site import StatusSite
from negserve_server.publishing.datasets import Datasets
from tests.support.graphs import load
from tests.support.programs.web_page import WebPage, open_page
from tests.support.repositories import ADMIN, Administrator, write_tokens
from tests.support.scraping import Scraper, scraped_server
from tests.support.workers import wait_for

POSITIVES = np.array([[1, 2, 3], [4, 5, 6], [7, 0, 9]])


class Visited:
    """A server with a status page, and its administrator."""

    def __init__(self, scraper: Scraper, administrator: Administrator, num_workers: int) -> None:
        self.scraper = scraper
        self.administrator = administrator
        self.num_workers = num_workers

    def page(self) -> WebPage:
        return open_page(self.scraper.url, "/")


@pytest.fixture(scope="module", params=[1, 2])
def visited(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visited]:
    folder = tmp_path_factory.mktemp("visited")
    (folder / "admin-tokens").write_text(ADMIN)
    options = (
        "--status-page", "--dataset", "world", "--workers", str(request.param),
        "--token-file", str(write_tokens(folder, anybody=True)),
    )  # fmt: skip
    with scraped_server(folder / "log", *options) as scraper:
        administrator = Administrator(scraper.server, folder / "admin-tokens", folder / "log")
        yield Visited(scraper, administrator, request.param)


def test_a_visitor_reads_what_the_server_holds(visited: Visited):
    page = visited.page()
    assert page.status == 200
    world = load("world")
    (row,) = page.rows[1:]
    sizes = " + ".join(f"{len(columns):,}" for columns in world.columns.values())
    assert row[0] == f"world {world.fingerprint[:16]}"
    assert row[1:5] == [sizes, f"{world.num_entities:,}", str(world.num_relations), "1"]
    assert f"Workers {visited.num_workers} " in page.text
    assert "State serving Up for" in page.text
    assert version("negserve") in page.text
    bars = [attributes for tag, attributes in page.tags if tag == "progress"]
    assert len(bars) == 2
    assert all(0 <= int(bar["value"] or "") <= int(bar["max"] or "") for bar in bars)


def test_a_visitor_reads_what_calls_have_drawn(visited: Visited):
    with Client(visited.scraper.server.target) as client:
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=500)
        sampler.sample(POSITIVES, 0)
        wait_for(
            lambda: visited.page().rows[1][5:7] == ["1", "1,500"], "a stream and its negatives"
        )
    wait_for(lambda: visited.page().rows[1][5:7] == ["0", "1,500"], "the end of the stream")


def test_a_visitor_reads_how_long_messages_take(visited: Visited):
    def latency() -> str:
        return visited.page().rows[1][8]

    # Nothing was drawn between two readings.
    wait_for(lambda: latency() == "–", "a pause")
    with Client(visited.scraper.server.target) as client:
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=500)

        def is_shown() -> bool:
            sampler.sample(POSITIVES, 0)
            return latency() != "–"

        wait_for(is_shown, "a latency")
        sampler.sample(POSITIVES, 0)
        wait_for(lambda: re.fullmatch(r"[\d,.]+ \+ [\d,.]+", latency()) is not None, "two parts")


def test_a_visitor_sees_that_the_server_is_drained(visited: Visited):
    assert visited.administrator.run("drain")[0] == 0
    wait_for(lambda: "State drained" in visited.page().text, "the page of a drained server")
    assert visited.administrator.run("resume")[0] == 0
    wait_for(lambda: "State serving" in visited.page().text, "the page of a server back in service")


def test_the_page_comes_again_by_itself_unless_it_is_paused(visited: Visited):
    def refresh(page: WebPage) -> list[str | None]:
        return [each["content"] for tag, each in page.tags if each.get("http-equiv") == "refresh"]

    assert refresh(visited.page()) == ["10"]
    assert refresh(open_page(visited.scraper.url, "/", pause="yes")) == []


def test_a_browser_may_do_nothing_with_the_pages_but_show_them(visited: Visited):
    for path in ("/", "/playground"):
        page = open_page(visited.scraper.url, path)
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "script" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Set-Cookie"] is None
        assert not [tag for tag, _ in page.tags if tag in {"script", "img", "link", "iframe"}]
        assert open_page(visited.scraper.url, path, "POST").status == 405


def test_without_the_option_there_is_no_page(tmp_path: Path):
    with scraped_server(tmp_path / "log") as scraper:
        page = open_page(scraper.url, "/")
        assert "Metrics, for Prometheus." in page.text
        assert "world" not in page.text
        assert open_page(scraper.url, "/playground", head=0, relation=0, tail=0).status == 404
    with pytest.raises(ValueError, match="--status-page without --metrics-listen"):
        ServerConfig(status_page=True)


def test_a_page_that_everybody_reaches_warns(tmp_path: Path):
    with scraped_server(tmp_path / "log", "--metrics-listen", "0.0.0.0:0", "--status-page"):
        assert "LABELS AND TRIPLES OF ALL DATASETS" in (tmp_path / "log").read_text()


class Silent:
    """A server of which a worker does not answer."""

    async def status(self) -> ServerStatus:
        return await asyncio.get_running_loop().create_future()


def test_a_visitor_does_not_wait_for_a_worker_that_hangs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_numbers, "_ANSWER_SECONDS", 0.05)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    site = StatusSite(ServerNumbers(loop, cast("Controlled", Silent()), Datasets({})))
    answer = site.answer("/", "")
    assert answer is not None
    assert answer.status.startswith("503")
    assert b"has not answered" in answer.body
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()
    answer = site.answer("/", "")
    assert answer is not None
    assert answer.status.startswith("503"), "the server ends"


def numbers(read_at: float, **drawn: int) -> Numbers:
    status = ServerStatus(
        uptime_seconds=read_at, is_drained=False, num_workers=1, num_worker_restarts=0,
        resident_bytes=0, ahead_bytes=0, max_ahead_bytes=0, max_table_bytes=0, num_calls=0,
        num_queued=0, peers=(), rpcs={},
        datasets=tuple(DatasetStatus(name=name, num_negatives=n) for name, n in drawn.items()),
    )  # fmt: skip
    return Numbers(status, {}, read_at)


def test_latencies_are_those_of_messages_between_two_readings():
    def at(read_at: float, **times: MessageTimes) -> Numbers:
        found = numbers(read_at)
        of = tuple(DatasetStatus(name=name, times=each) for name, each in times.items())
        return Numbers(replace(found.status, datasets=of), {}, read_at)

    before = at(10.0, used=MessageTimes(5, 1.0, 7.0), idle=MessageTimes(5, 1.0, 2.0),
                fell=MessageTimes(5, 1.0, 2.0))  # fmt: skip
    now = at(14.0, used=MessageTimes(9, 1.5, 8.0), idle=MessageTimes(5, 1.0, 2.0),
             fell=MessageTimes(6, 0.5, 1.0), new=MessageTimes(2, 1.0, 4.0))  # fmt: skip
    assert now.since(before).message_means == {
        "used": (0.125, 0.25), "idle": None, "fell": None, "new": (0.5, 2.0)
    }  # fmt: skip


def test_rates_are_those_between_two_readings():
    before, now = numbers(10.0, kept=100, fell=100), numbers(14.0, kept=140, fell=60, new=8)
    found = now.since(before)
    assert found.negatives_a_second == {"kept": 10.0, "fell": None, "new": None}
    assert found.rate_seconds == 4.0
