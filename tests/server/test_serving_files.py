"""``serve`` takes the options about files that ``build`` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from negserve import Client
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.server.test_app import run
from tests.support.graphs import load
from tests.support.server_process import server_process

OPTIONS = ("--separator", "pipe", "--columns", "tail,head,relation", "--no-header",
           "--fractions", "0.8,0.1,0.1", "--seed", "3")  # fmt: skip
READ = ReadOptions(
    separator="pipe",
    columns=("tail", "head", "relation"),
    header=False,
    fractions=(0.8, 0.1, 0.1),
    seed=3,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "graph.txt"
    path.write_text("".join(f"e{7 * i % 90}|e{i % 100}|r{i % 3}\n" for i in range(900)))
    return path


@pytest.mark.parametrize("workers", ["1", "2"])
def test_files_are_read_as_the_options_say(tmp_path: Path, file: Path, workers: str):
    expected = TriplesFactory.from_path(file, READ)
    cache, log = tmp_path / "cache", tmp_path / "log"
    arguments = ("--workers", workers, "--dataset", f"g={file}", "--cache-dir", str(cache))
    for said in ("read, and kept", "not read again, mapped"):
        with (
            server_process(*arguments, *OPTIONS, log=log) as server,
            Client(server.target) as client,
        ):
            served = client.triples_factory("g")
            assert served.fingerprint == expected.fingerprint
            assert served.entity_to_id == expected.entity_to_id
        assert said in log.read_text()
    # Other options, another graph: that of the cache is not taken for it.
    with (
        server_process(*arguments, *OPTIONS[:-1], "4", log=log) as server,
        Client(server.target) as client,
    ):
        assert client.triples_factory("g").fingerprint != expected.fingerprint
    assert len(list(cache.iterdir())) == 2


def test_they_are_refused_where_nothing_is_read(tmp_path: Path, file: Path):
    snapshot = tmp_path / "snapshot"
    write_snapshot(load("world").parts, snapshot, made={})
    listen = ("serve", "--listen", "127.0.0.1:0", "--dataset", f"s={snapshot}")
    result = run(*listen, *OPTIONS)
    assert result.returncode == 1
    assert "no --dataset is read from files: s; a snapshot is as it was built" in result.stderr
    log = tmp_path / "log"
    arguments = ("--dataset", f"s={snapshot}", "--dataset", f"g={file}", *OPTIONS)
    with server_process(*arguments, log=log) as server, Client(server.target) as client:
        assert client.list_datasets() == ["s", "g"]
    assert "the options about reading files do not concern s, made before" in log.read_text()
