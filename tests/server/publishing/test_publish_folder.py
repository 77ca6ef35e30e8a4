"""Published graphs on disk: complete or absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

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


def test_a_saved_graph_is_served_from_its_files(tmp_path: Path):
    folder = PublishFolder(tmp_path)
    world = load("world")
    mapped = folder.save("whole", world)
    assert mapped.fingerprint == world.fingerprint
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "whole" / "training.heads.npy") in maps
    # What is dropped can be read on by those who have it.
    folder.remove("whole")
    assert folder.load() == {}
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
    assert np.array_equal(mapped.mapped_triples, world.mapped_triples)
    assert mapped.entity_to_id["Kenya"] == world.entity_to_id["Kenya"]
    folder.remove("whole")  # it is gone already
    folder.close()


def test_another_graph_takes_the_place_of_one(tmp_path: Path, small: TriplesFactory):
    folder = PublishFolder(tmp_path)
    before = folder.save("small", load("world"))
    folder.save("small", small)
    assert folder.load()["small"].fingerprint == small.fingerprint
    assert before.contains(before.mapped_triples[:5], ("training",)).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "small"]
    folder.close()


@pytest.mark.parametrize("lost", ["types.tails", "relations.labels", "training.heads"])
def test_a_graph_that_lacks_a_part_is_left_out(
    tmp_path: Path, lost: str, caplog: pytest.LogCaptureFixture
):
    folder = PublishFolder(tmp_path)
    folder.save("whole", load("world"))
    (tmp_path / "whole" / f"{lost}.npy").unlink()
    assert folder.load() == {}
    assert f"array {lost} is missing (No such file or directory)" in caplog.text
    folder.close()


def test_remains_of_a_killed_server_are_removed(tmp_path: Path, small: TriplesFactory):
    folder = PublishFolder(tmp_path)
    folder.save("small", small)
    shutil.copytree(tmp_path / "small", tmp_path / ".unfinished-abc" / "graph")
    folder = reopened(folder)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "small"]
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
    with pytest.raises(ValueError, match="not a legal name"):
        folder.save("../small", small)
    folder.save("small", small)
    assert list(folder.load()) == ["small"]
    folder.close()


def test_one_server_at_a_time(tmp_path: Path):
    folder = PublishFolder(tmp_path)
    with pytest.raises(OSError, match="another server uses this folder"):
        PublishFolder(tmp_path)
    reopened(folder).close()


@pytest.mark.parametrize("name", ["notes.txt", ".npz", "a b", "-x", "small.npz"])
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
