"""Snapshots and algorithm versions of a later release are refused, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from negserve import Client, EpochConfig, InvalidRequestError, SamplerConfig, UnknownDatasetError
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.sampling import ALGORITHM_VERSION
from tests.server.test_app import run
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process


def raise_format(snapshot: Path) -> bytes:
    """Raise the format version of a snapshot, nothing else; return its manifest."""
    path = snapshot / "manifest.json"
    document = json.loads(path.read_text())
    document["version"] += 1
    text = json.dumps(document).encode()
    path.unlink()  # it is read-only
    path.write_bytes(text)
    return text


def test_a_snapshot_of_a_later_release_ends_the_start(tmp_path: Path):
    snapshot = tmp_path / "later"
    write_snapshot(load("world").parts, snapshot, made={"from": "world"})
    raise_format(snapshot)
    done = run("serve", "--listen", "127.0.0.1:0", "--dataset", f"later={snapshot}")
    assert done.returncode == 1
    assert f"{snapshot}" in done.stderr
    assert "has format version 2, this release reads 1; upgrade negserve" in done.stderr


def test_a_published_graph_of_a_later_release_is_named_kept_and_not_served(tmp_path: Path):
    folder, log = tmp_path / "published", tmp_path / "log"
    options = ("--allow-publish", "--publish-dir", str(folder))
    with server_process(*options) as server, Client(server.target) as client:
        client.publish("mine", [[0, 0, 1], [1, 0, 2]])
        assert server.terminate() == 0
    manifest = raise_format(folder / "mine")
    with server_process(*options, log=log) as server, Client(server.target) as client:
        assert list(client.list_datasets()) == ["world"]
        with pytest.raises(UnknownDatasetError):
            client.triples_factory("mine")
    assert (folder / "mine" / "manifest.json").read_bytes() == manifest
    (line,) = [each for each in log.read_text().splitlines() if "mine is not served" in each]
    assert "has format version 2, this release reads 1; upgrade negserve" in line


def test_an_algorithm_version_that_the_server_does_not_know_is_refused(server: ServerProcess):
    later = ALGORITHM_VERSION + 1
    with Client(server.target, timeout=20) as client:
        assert client.server_info().algorithm_versions == (ALGORITHM_VERSION,)
        factory = client.triples_factory("world")
        config = SamplerConfig(algorithm_version=later)
        with pytest.raises(InvalidRequestError, match=f"{later}") as of_sampler:
            factory.open_sampler(algorithm_version=later).sample([[0, 0, 1]], 0)
        with pytest.raises(InvalidRequestError, match=f"{later}") as of_epoch:
            next(iter(factory.epochs(config, EpochConfig(batch_size=8))))
        for caught in (of_sampler, of_epoch):
            assert caught.value.reason == "INVALID_CONFIGURATION"
            assert caught.value.metadata["value"] == str(later)
            assert caught.value.metadata["limit"] == str(ALGORITHM_VERSION)
        # A stream of the version that it knows goes on as before.
        known = factory.open_sampler(algorithm_version=ALGORITHM_VERSION)
        assert known.sample([[0, 0, 1]], 0).replaced.size == 1
