"""Published graphs on disk: complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.publishing.publish_folder import PublishFolder
from tests.support.graphs import load


@pytest.fixture
def small() -> TriplesFactory:
    return TriplesFactory(
        {"training": [(0, 0, 1), (1, 1, 2)], "testing": np.empty((0, 3), dtype=np.int64)},
        num_entities=9,
        num_relations=4,
    )


def reopened(folder: PublishFolder) -> PublishFolder:
    folder.close()
    return PublishFolder(folder.path)


def test_a_saved_graph_is_loaded(tmp_path: Path, small: TriplesFactory):
    folder = PublishFolder(tmp_path / "made" / "when missing")
    world = load("world")
    plain = TriplesFactory(world.splits, num_entities=world.num_entities, num_relations=40)
    folder.save("world.2", plain)
    folder.save("Small-1", small)
    folder = reopened(folder)
    loaded = folder.load()
    assert list(loaded) == ["Small-1", "world.2"]
    for name, graph in (("Small-1", small), ("world.2", plain)):
        assert loaded[name].fingerprint == graph.fingerprint
        assert loaded[name].num_relations == graph.num_relations
        assert list(loaded[name].splits) == list(graph.splits)
    folder.close()


def test_type_constraints_and_labels_are_kept(tmp_path: Path):
    folder = PublishFolder(tmp_path)
    world = load("world")
    folder.save("whole", world)
    folder.save("unlabelled", TriplesFactory(world.splits, type_constraints=world.type_constraints))
    folder = reopened(folder)
    loaded = folder.load()
    for name in ("whole", "unlabelled"):
        assert loaded[name].fingerprint == world.fingerprint
        assert loaded[name].type_constraints_fingerprint == world.type_constraints_fingerprint
    assert loaded["whole"].entity_to_id == world.entity_to_id
    assert loaded["whole"].relation_to_id == world.relation_to_id
    assert loaded["unlabelled"].entity_to_id == {}
    folder.close()


def test_a_file_of_the_previous_version_is_read(tmp_path: Path, small: TriplesFactory):
    folder = PublishFolder(tmp_path)
    folder.save("small", small)
    with np.load(tmp_path / "small.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "small.npz", **{**arrays, "version": np.uint32(1)})
    assert folder.load()["small"].fingerprint == small.fingerprint
    np.savez(tmp_path / "small.npz", **{**arrays, "version": np.uint32(9)})
    with pytest.raises(MalformedFile, match="version is 9"):
        folder.load()
    folder.close()


@pytest.mark.parametrize("lost", ["tail_types", "relation_labels", "head_types"])
def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path, lost: str):
    folder = PublishFolder(tmp_path)
    folder.save("whole", load("world"))
    with np.load(tmp_path / "whole.npz") as stored:
        arrays = dict(stored)
    del arrays[lost]
    np.savez(tmp_path / "whole.npz", **arrays)
    with pytest.raises(MalformedFile, match=r"whole\.npz"):
        folder.load()
    folder.close()


def test_remains_of_a_killed_server_are_removed(tmp_path: Path, small: TriplesFactory):
    folder = PublishFolder(tmp_path)
    folder.save("small", small)
    whole = (tmp_path / "small.npz").read_bytes()
    (tmp_path / ".unfinished-abc").write_bytes(whole[:100])
    folder = reopened(folder)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "small.npz"]
    assert list(folder.load()) == ["small"]
    folder.close()


def test_a_save_that_fails_leaves_nothing(
    tmp_path: Path, small: TriplesFactory, monkeypatch: pytest.MonkeyPatch
):
    folder = PublishFolder(tmp_path)

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            folder.save("small", small)
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
    with pytest.raises(ValueError, match="no legal name"):
        folder.save("../small", small)
    folder.save("small", small)
    assert list(folder.load()) == ["small"]
    folder.close()


def test_one_server_at_a_time(tmp_path: Path):
    folder = PublishFolder(tmp_path)
    with pytest.raises(OSError, match="another server keeps its graphs there"):
        PublishFolder(tmp_path)
    reopened(folder).close()


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped", "text", "pickle", "half", "version"])
def test_files_that_are_no_graphs_are_refused(tmp_path: Path, small: TriplesFactory, harm: str):
    folder = PublishFolder(tmp_path)
    folder.save("small", small)
    file = tmp_path / "small.npz"
    whole = file.read_bytes()
    if harm == "cut":
        file.write_bytes(whole[:-30])
    elif harm == "empty":
        file.write_bytes(b"")
    elif harm == "flipped":
        place = whole.index(np.array([1, 1, 2], "<u4").tobytes())
        file.write_bytes(whole[:place] + b"\2" + whole[place + 1 :])
    elif harm == "text":
        file.write_text("a\tr\tb\n")
    elif harm == "pickle":
        np.savez(file, version=np.array([{}], dtype=object))
    elif harm == "half":
        np.savez(file, version=1, fingerprint=np.array(small.fingerprint), num_entities=9)
    else:
        np.savez(file, version=2)
    with pytest.raises(MalformedFile, match=r"small\.npz: this is no published graph .* remove it"):
        folder.load()
    folder.close()


def test_a_graph_under_the_fingerprint_of_another_is_refused(tmp_path: Path, small: TriplesFactory):
    folder = PublishFolder(tmp_path)
    folder.save("small", small)
    with np.load(tmp_path / "small.npz") as stored:
        arrays = {**stored, "num_entities": np.uint64(10)}
    np.savez(tmp_path / "small.npz", **arrays)
    with pytest.raises(MalformedFile, match=f"the file says {small.fingerprint}"):
        folder.load()
    folder.close()


@pytest.mark.parametrize("name", ["notes.txt", ".npz", "a b.npz", "-x.npz", "small.npz.bak"])
def test_files_of_others_are_left_alone(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
):
    folder = PublishFolder(tmp_path)
    (tmp_path / "lost+found").mkdir()
    assert folder.load() == {}
    (tmp_path / name).write_text("mine")
    assert folder.load() == {}
    assert name in caplog.text
    assert (tmp_path / name).read_text() == "mine"
    folder.close()
