"""A server leaves snapshots of the files that it read, and reads equal files no more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from negserve import Client
from negserve_server.graph import TriplesFactory, triples_factory
from negserve_server.graph.snapshot import snapshot_cache
from negserve_server.graph.snapshot.snapshot_cache import SnapshotCache
from negserve_server.serving import loading
from tests.support.graphs import load
from tests.support.server_process import server_process

LINES = "a\tr\tb\nb\ts\ta\nc\tr\ta\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text(LINES)
    (folder / "valid.txt").write_text("a\ts\tb\n")
    (folder / "type_constraints.tsv").write_text("r\thead\ta\tc\n")
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths that were read, not mapped."""
    paths: list[Path] = []
    read = triples_factory.read_graph

    def note(path: Path, options: object) -> object:
        paths.append(path)
        return read(path, options)  # type: ignore[arg-type]

    monkeypatch.setattr(triples_factory, "read_graph", note)
    return paths


def start(folder: Path, data: Path) -> TriplesFactory:
    return loading.load_datasets({"graph": data}, SnapshotCache(folder))["graph"]


def test_equal_files_are_read_once(tmp_path: Path, data: Path, reads: list[Path]):
    cache = tmp_path / "cache"
    first = start(cache, data)
    assert reads == [data]
    plain = TriplesFactory.from_path(data)
    reads.clear()
    copy = Path(shutil.copytree(data, tmp_path / "copy"))  # other times, another place
    os.utime(copy / "train.txt", (0, 0))
    (copy / "notes.txt").write_text("not read")
    for again in (start(cache, data), start(cache, copy)):
        assert again.fingerprint == first.fingerprint == plain.fingerprint
        assert dict(again.entity_to_id) == dict(plain.entity_to_id)
        np.testing.assert_array_equal(again.mapped_triples, plain.mapped_triples)
    assert reads == []
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.txt", LINES.replace("c", "d")),  # of equal size
        ("valid.txt", "b\ts\tb\n"),
        ("type_constraints.tsv", "r\thead\ta\tb\n"),
        ("entities.dict", "0\tc\n1\tb\n2\ta\n"),
        ("test.txt", "c\tr\tb\n"),
    ],
)
def test_any_file_of_the_graph_counts(
    tmp_path: Path, data: Path, reads: list[Path], name: str, text: str
):
    start(tmp_path / "cache", data)
    before = (data / "train.txt").stat()
    (data / name).write_text(text)
    os.utime(data / name, (before.st_atime, before.st_mtime))
    found = start(tmp_path / "cache", data)
    assert len(reads) == 2
    assert found.fingerprint == TriplesFactory.from_path(data).fingerprint


def test_a_damaged_snapshot_is_replaced(
    tmp_path: Path, data: Path, reads: list[Path], caplog: pytest.LogCaptureFixture
):
    start(tmp_path / "cache", data)
    (snapshot,) = (tmp_path / "cache").iterdir()
    (snapshot / "training.heads.npy").write_bytes(b"")
    start(tmp_path / "cache", data)
    assert "array training.heads has 0 bytes" in caplog.text
    assert len(reads) == 2
    start(tmp_path / "cache", data)
    assert len(reads) == 2


def test_a_snapshot_that_cannot_be_written_harms_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_cache, "write_snapshot", fail)
    assert start(tmp_path / "cache", data).num_triples == 3
    assert "is read again by the next start: no snapshot, as [Errno 28] No space" in caplog.text


def test_another_server_may_be_faster(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    write = snapshot_cache.write_snapshot

    def late(*arguments: object, **options: object) -> None:
        write(*arguments, **options)  # type: ignore[arg-type]
        write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot_cache, "write_snapshot", late)
    assert start(tmp_path / "cache", data).num_triples == 3


def test_a_second_server_maps_what_the_first_has_left(tmp_path: Path):
    options = (
        "--dataset",
        f"fb={_fb(tmp_path)}",
        "--cache-dir",
        str(tmp_path / "cache"),
    )
    answers, logs = [], []
    for number in range(2):
        log = tmp_path / f"log-{number}"
        with server_process(*options, log=log) as server, Client(server.target) as client:
            factory = client.triples_factory("fb")
            sampler = factory.open_sampler(num_negs_per_pos=3, filter_splits=("training",))
            answers.append((factory.fingerprint, sampler.sample([[0, 0, 1]], 7).replaced.tolist()))
        logs.append(log.read_text())
    assert answers[0] == answers[1]
    assert "read, and kept for the next start in" in logs[0]
    assert "do not occur in training" in logs[0] or "does not occur in training" in logs[0]
    assert "not read again, mapped from" in logs[1]
    assert "occur in training" not in logs[1]  # as a reader says


def _fb(folder: Path) -> Path:
    """Files of a graph whose reading leaves a line in the log."""
    path = folder / "fb"
    path.mkdir()
    rows = load("world").mapped_triples[:500]
    (path / "train.txt").write_text("".join(f"e{h}\tr{r}\te{t}\n" for h, r, t in rows.tolist()))
    (path / "valid.txt").write_text("e0\tr0\tnobody\n")
    return path
