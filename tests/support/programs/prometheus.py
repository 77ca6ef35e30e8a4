"""Prometheus and promtool, of the Debian package."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.workers import wait_for


def tool(name: str) -> str:
    """Find a program of the package, or skip the test."""
    path = shutil.which(name)
    if path is None:
        say = pytest.fail if os.environ.get("NEGSERVE_REQUIRE_PROMETHEUS") else pytest.skip
        say(f"there is no {name}: apt-get install prometheus")
    return path


class Prometheus:
    """A running Prometheus.

    :param url: where it answers
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """Call its HTTP interface, and return the data."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=20) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[Any]:
        """Evaluate an expression now, and return its series."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


def scraping(target: str, rules: Path, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a configuration that scrapes a server every fifth of a second.

    :param target: host and port of the server's metrics
    :param rules: file of its rules
    :param labels: more labels of all its series
    """
    scraped = {"targets": [target], "labels": dict(labels or {})}
    return {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "negserve", "static_configs": [scraped]}],
    }


@contextmanager
def prometheus(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Run a Prometheus until the block ends, which begins after the first scrape of a job negserve.

    :param folder: for its data
    :param configuration: what its file says
    """
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        running = Prometheus(f"http://127.0.0.1:{port}")

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return bool(running.query('up{job="negserve"} == 1'))
            except OSError:
                return False

        try:
            wait_for(answers, "a scrape")
            yield running
        finally:
            process.kill()
