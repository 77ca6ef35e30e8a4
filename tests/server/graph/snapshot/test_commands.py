"""The commands that build, show, check and serve snapshots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from negserve import Client
from negserve_server.cli import main
from negserve_server.graph import TriplesFactory
from tests.support.graphs import load
from tests.support.server_process import server_process

WORLD = Path(TriplesFactory.world.__func__.__globals__["_WORLD"])  # type: ignore[attr-defined]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "world"
    done = run("build", WORLD, "--out", out, "--index-splits", "training,testing")
    assert done.exit_code == 0, done.output
    assert f"{out}: 6,008 triples" in done.output
    assert load("world").fingerprint in done.output
    return out


def test_a_snapshot_is_inspected_as_its_source(snapshot: Path):
    facts = json.loads(run("inspect", "--json", "--verify", snapshot).stdout)
    source = json.loads(run("inspect", "--json", WORLD).stdout)
    for name in source.keys() - {"index_bytes"}:
        assert facts[name] == source[name], name
    assert facts["snapshot_format"] == 1
    assert facts["indexes"].split(", ") == [
        "training.head",
        "training.tail",
        "training+testing.head",
        "training+testing.tail",
    ]
    assert facts["made_from"] == str(WORLD)
    assert facts["verified"] is True
    assert facts["snapshot_bytes"] == sum(file.stat().st_size for file in snapshot.glob("*.npy"))
    text = run("inspect", "--verify", snapshot).stdout
    assert "snapshot_bytes" in text
    assert "verified                 True" in text


def test_verify_names_the_altered_array(snapshot: Path, tmp_path: Path):
    copied = tmp_path / "copy"
    subprocess.run(["cp", "-r", snapshot, copied], check=True)
    with (copied / "testing.tails.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert run("inspect", copied).exit_code == 0
    failed = run("inspect", "--verify", copied)
    assert failed.exit_code == 1
    assert "array testing.tails was altered" in failed.output
    assert run("inspect", "--verify", WORLD).exit_code == 2
    assert run("inspect", "--verify").exit_code == 2


def test_wrong_commands_are_refused(snapshot: Path, tmp_path: Path):
    for arguments, why in (
        ((WORLD, "--out", snapshot), "exists already; remove it"),
        ((WORLD, "--out", tmp_path / "a", "--index-splits", "train"), "'train': give some of"),
        ((tmp_path / "nowhere", "--out", tmp_path / "a"), "does not exist"),
        ((WORLD,), "Missing option '--out'"),
        ((snapshot, "--out", tmp_path / "a", "--ids"), "is a snapshot, which is as it was built"),
    ):
        failed = run("build", *arguments)
        assert failed.exit_code in (1, 2)
        assert why in failed.output.replace("\n", " "), failed.output
    assert not (tmp_path / "a").exists()


def test_without_a_source_it_is_of_the_embedded_graph(tmp_path: Path):
    assert run("build", "--out", tmp_path / "out").exit_code == 0
    facts = json.loads(run("inspect", "--json", tmp_path / "out").stdout)
    assert facts["fingerprint"] == load("world").fingerprint
    assert facts["made_from"] == "the embedded graph"
    for arguments, why in (
        (("--ids",), "options of reading are about SOURCE; give one"),
        (("--base", tmp_path / "out"), "give --base and --add together"),
        ((WORLD, "--base", tmp_path / "out", "--add", WORLD), "give SOURCE, or --base OLD"),
    ):
        failed = run("build", *arguments, "--out", tmp_path / "other")
        assert failed.exit_code == 2
        assert why in failed.output


def test_several_files_are_named_by_their_splits(tmp_path: Path):
    files = [WORLD / f"{name}.txt" for name in ("test", "train", "valid")]
    assert run("build", *files, "--out", tmp_path / "out").exit_code == 0
    built = TriplesFactory.from_snapshot(tmp_path / "out")
    assert built.split_fingerprints == load("world").split_fingerprints
    for wrong, why in (
        (files[:1] + files[2:], "no file is named train"),
        ([*files, WORLD / "type_constraints.tsv"], "is of no split by name"),
        ([*files, files[1]], "train.txt is one more"),
    ):
        failed = run("build", *wrong, "--out", tmp_path / "other")
        assert failed.exit_code == 2
        assert why in failed.output


def test_options_are_those_of_reading(tmp_path: Path):
    (tmp_path / "graph.csv").write_text("h;t;r\n1;2;0\n2;1;0\n")
    done = run(
        "build", tmp_path / "graph.csv", "--out", tmp_path / "out",
        "--separator", "semicolon", "--columns", "1,3,2", "--header", "--ids",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    factory = TriplesFactory.from_snapshot(tmp_path / "out")
    assert factory.mapped_triples.tolist() == [[1, 0, 2], [2, 0, 1]]
    made = json.loads((tmp_path / "out" / "manifest.json").read_text())["made"]
    assert made["options"] == {
        "separator": "semicolon", "columns": ["1", "3", "2"], "header": True, "ids": True
    }  # fmt: skip


def test_a_served_snapshot_answers_as_its_source(snapshot: Path, client: Client, tmp_path: Path):
    log = tmp_path / "log"
    with (
        server_process("--dataset", f"world={snapshot}", log=log) as server,
        Client(server.target) as other,
    ):
        pair = [each.triples_factory("world") for each in (client, other)]
        assert pair[0].fingerprint == pair[1].fingerprint
        assert dict(pair[0].entity_to_id) == dict(pair[1].entity_to_id)
        positives = load("world").mapped_triples[:300]
        for options in (
            {"kind": "bernoulli", "filter_splits": ("training", "testing")},
            {"kind": "typed", "filter_splits": ("training",)},
        ):
            one, two = (
                each.open_sampler(num_negs_per_pos=5, **options).sample(positives, 3)
                for each in pair
            )
            np.testing.assert_array_equal(one.replaced, two.replaced)
            np.testing.assert_array_equal(one.head_counts, two.head_counts)


#: Opens a snapshot and draws, as a user who may write nothing.
READ_ONLY = """
import os
from pathlib import Path
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_reader import verify_snapshot
TriplesFactory({"training": [(0, 0, 1)]}).contains([(0, 0, 1)], ("training",))  # its imports
if os.getuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    Path("graph/new").touch()
except PermissionError:
    pass
else:
    raise SystemExit("the folder can be written to")
verify_snapshot(Path("graph"), lambda *_: None)
factory = TriplesFactory.from_snapshot("graph")
print(factory.fingerprint, factory.contains(factory.mapped_triples, ("training",)).all())
"""


def test_a_snapshot_may_be_read_only(snapshot: Path, tmp_path: Path):
    copied = tmp_path / "graph"
    subprocess.run(["cp", "-r", snapshot, copied], check=True)
    tmp_path.chmod(0o755)
    for file in copied.iterdir():
        file.chmod(0o444)
    copied.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    copied.chmod(0o755)
    assert done.stdout.split() == [load("world").fingerprint, "True"], done.stderr
