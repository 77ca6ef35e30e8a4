"""A snapshot that is truncated, altered or of another format is refused by array and reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve_server.errors import MalformedFile, MalformedSnapshot, NegserveServerError
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.snapshot_reader import verify_snapshot
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support.graphs import load


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / "whole"
    write_snapshot(load("world").parts, path, made={"from": "world"})
    return path


@pytest.fixture
def snapshot(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "graph"))


def names(path: Path) -> list[str]:
    return sorted(file.name.removesuffix(".npy") for file in path.glob("*.npy"))


def nothing(_what: str, _done: int, _total: int) -> None:
    """Ignore progress."""


def alter(change: Callable[[dict[str, Any]], object], snapshot: Path) -> None:
    """Change the manifest as somebody would by hand."""
    path = snapshot / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(snapshot: Path) -> MalformedSnapshot:
    with pytest.raises(MalformedSnapshot) as caught:
        TriplesFactory.from_snapshot(snapshot)
    assert isinstance(caught.value, NegserveServerError | MalformedFile)
    assert str(snapshot) in str(caught.value)
    with pytest.raises(MalformedSnapshot):
        TriplesFactory.from_path(snapshot)
    with pytest.raises(MalformedSnapshot):
        verify_snapshot(snapshot, nothing)
    return caught.value


def test_each_array_is_missed_and_measured(whole: Path, tmp_path: Path):
    assert len(names(whole)) > 20
    for name in names(whole):
        snapshot = Path(shutil.copytree(whole, tmp_path / name))
        file = snapshot / f"{name}.npy"
        data = file.read_bytes()
        for damaged, why in (
            (data[:-1], f"has {len(data) - 1} bytes, the manifest says {len(data)}: it is trunc"),
            (data[:70], "has 70 bytes"),
            (b"", "has 0 bytes"),
            (data + b"\0", f"has {len(data) + 1} bytes, .*: it is altered"),
        ):
            file.write_bytes(damaged)
            error = refused(snapshot)
            assert error.array == name
            assert re.search(f"array {re.escape(name)} {why}", str(error))
        file.unlink()
        error = refused(snapshot)
        assert error.array == name
        assert f"array {name} is missing" in str(error)


def test_an_altered_byte_of_each_array_is_found_by_its_checksum(whole: Path, tmp_path: Path):
    verify_snapshot(whole, nothing)
    for name in names(whole):
        snapshot = Path(shutil.copytree(whole, tmp_path / name))
        file = snapshot / f"{name}.npy"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(MalformedSnapshot) as caught:
            verify_snapshot(snapshot, nothing)
        assert caught.value.array == name
        assert f"array {name} was altered: its SHA-256 is" in str(caught.value)


def test_another_dtype_or_shape_of_the_same_size_is_refused(snapshot: Path):
    file = snapshot / "training.heads.npy"
    heads = np.load(file)
    np.save(file, heads.view("<i2" if heads.itemsize == 2 else "|i1"))
    error = refused(snapshot)
    assert error.array == "training.heads"
    assert "is not what the manifest says: it holds" in str(error)


def test_a_newer_format_is_refused_by_its_version(snapshot: Path):
    alter(lambda document: document.update(version=2), snapshot)
    error = refused(snapshot)
    assert error.array is None
    assert "has format version 2, this release reads 1; upgrade negserve" in str(error)


@pytest.mark.parametrize("version", [0, -1, "1", None])
def test_no_other_version_is_read(snapshot: Path, version: object):
    alter(lambda document: document.update(version=version), snapshot)
    assert "this release reads 1; build the snapshot again" in str(refused(snapshot))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(num_entities=5),
        lambda document: document.update(fingerprint="0" * 64),
        lambda document: document["splits"]["training"].update(num_triples=1),
        lambda document: document["arrays"].pop("training.tails"),
        lambda document: document.pop("arrays"),
        lambda document: document.pop("sha256"),
    ],
)
def test_an_altered_manifest_is_refused(snapshot: Path, change: Callable[[dict[str, Any]], object]):
    alter(change, snapshot)
    assert "manifest.json was altered" in str(refused(snapshot))


@pytest.mark.parametrize("length", [0, 60, 1000])
def test_a_truncated_manifest_is_refused(snapshot: Path, length: int):
    path = snapshot / "manifest.json"
    path.write_bytes(path.read_bytes()[:length])
    assert "manifest.json can't be read" in str(refused(snapshot))


def test_a_manifest_of_something_else_is_no_snapshot(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"name": "app"}')
    (tmp_path / "train.txt").write_text("a\tr\tb\n")
    assert TriplesFactory.from_path(tmp_path).num_triples == 1
    with pytest.raises(MalformedSnapshot, match="is of something else: this is no snapshot"):
        TriplesFactory.from_snapshot(tmp_path)


def test_options_of_readers_do_not_fit_a_snapshot(whole: Path):
    for options in ({"options": ReadOptions(ids=True)}, {"type_constraints": "types.tsv"}):
        with pytest.raises(MalformedFile, match="is a snapshot, which is as it was built"):
            TriplesFactory.from_path(whole, **options)  # type: ignore[arg-type]
