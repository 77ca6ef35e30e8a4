"""A build that is killed or fails leaves nothing that is taken for a snapshot."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot import snapshot_writer
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support.graphs import load

#: Writes the embedded graph, says what it does, and stays at one of its steps.
BUILD = """
import sys, time
from pathlib import Path
from negserve_server.errors import MalformedFile
from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot

def stay(what, done, total):
    print(what, flush=True)
    if what == sys.argv[2]:
        time.sleep(600)

write_snapshot(TriplesFactory.world().parts, Path(sys.argv[1]), made={}, progress=stay)
"""
STEPS = ("writing triples", "computing fingerprints", "indexing tails of training")


def build(out: Path, step: str) -> subprocess.Popen[str]:
    """Start a build, and wait until it is at a step."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(out), step], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert any(line.strip() == step for line in process.stdout)
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path: Path, step: str):
    out = tmp_path / "graph"
    process = build(out, step)
    end(process)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("graph.tmp-")
    for path in (out, left):
        with pytest.raises(MalformedFile, match=r"no such file|no training triples|no array of sh"):
            TriplesFactory.from_path(path)
    with pytest.raises(ValueError, match=r"manifest\.json is missing: this is no snapshot"):
        TriplesFactory.from_snapshot(left)
    write_snapshot(load("world").parts, out, made={})
    assert list(tmp_path.iterdir()) == [out]
    assert TriplesFactory.from_snapshot(out).fingerprint == load("world").fingerprint


def test_a_build_at_work_is_not_a_leftover(tmp_path: Path):
    out = tmp_path / "graph"
    process = build(out, STEPS[0])
    try:
        write_snapshot(load("world").parts, out, made={})
        assert len(list(tmp_path.glob("graph.tmp-*"))) == 1
    finally:
        end(process)
    assert TriplesFactory.from_snapshot(out).num_triples == load("world").num_triples


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = snapshot_writer.write_array

    def fail(folder: Path, name: str, *rest: object) -> object:
        if name == "index.training.tail.lists":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(folder, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot_writer, "write_array", fail)
    with pytest.raises(OSError, match="No space"):
        write_snapshot(load("world").parts, tmp_path / "graph", made={})
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_overwritten(tmp_path: Path):
    out = tmp_path / "graph"
    out.mkdir()
    (out / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already; remove it"):
        write_snapshot(load("world").parts, out, made={})
    assert [file.name for file in out.iterdir()] == ["notes"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_index_over_a_split_that_is_missing_is_refused_first(tmp_path: Path):
    graph = TriplesFactory({"training": [(0, 0, 1)]})
    with pytest.raises(ValueError, match="training, testing: the graph has training"):
        write_snapshot(
            graph.parts, tmp_path / "graph", index_splits=[("training", "testing")], made={}
        )
    assert list(tmp_path.iterdir()) == []
