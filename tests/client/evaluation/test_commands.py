"""The commands ``negserve evaluation-set``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from negserve import SamplerConfig
from negserve.evaluation import EvaluationSet, read_candidates
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support import preloaded
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(["-m", "negserve.cli", "evaluation-set", *arguments], timeout=60)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test triples of the embedded graph, as lines of labels."""
    graph = load("world")
    entities, relations = list(graph.entity_to_id), list(graph.relation_to_id)
    path = tmp_path_factory.mktemp("triples") / "test.tsv"
    lines = [
        f"{entities[h]}\t{relations[r]}\t{entities[t]}\n"
        for h, r, t in graph.splits["testing"].tolist()
    ]
    path.write_text("".join(reversed(lines)), encoding="utf-8")
    return path


def test_a_set_is_created_exported_and_verified(
    server: ServerProcess, labels: Path, tmp_path: Path
):
    manifest, file = tmp_path / "set.json", tmp_path / "set.parquet"
    there = ("--target", server.target)
    made = run("create", *there, "-k", "20", "--distinct", "--seed", "7",
               "-o", str(manifest), str(labels))  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "600 queries with 20 candidates each, 0 of them with fewer" in made.stdout
    graph = load("world")
    config = SamplerConfig(
        num_negs_per_pos=20,
        filter_splits=("training", "validation", "testing"),
        distinct=True,
        seed=7,
    )
    expected = EvaluationSet.create(graph, config, split="testing")
    assert EvaluationSet.from_json(manifest.read_text()) == expected
    exported = run("export", *there, "-o", str(file), str(manifest), str(labels))
    assert exported.returncode == 0, exported.stderr
    assert read_candidates(file)[0] == expected
    verified = run("verify", *there, "--file", str(file), str(manifest), str(labels))
    assert verified.returncode == 0, verified.stderr
    assert expected.digest in verified.stdout

    manifest.write_text(manifest.read_text().replace('"seed":7', '"seed":8'))
    refused = run("verify", *there, str(manifest), str(labels))
    assert refused.returncode == 1
    assert expected.digest in refused.stderr
    fewer = tmp_path / "fewer.tsv"
    fewer.write_text("".join(labels.read_text().splitlines(keepends=True)[1:]))
    refused = run("verify", *there, str(manifest), str(fewer))
    assert refused.returncode == 1
    assert "299 triples" in refused.stderr


def test_a_snapshot_has_the_triples_of_its_splits(tmp_path: Path):
    manifest = tmp_path / "set.json"
    write_snapshot(load("world").parts, tmp_path / "world", made={})
    with server_process("--dataset", f"world={tmp_path / 'world'}", "--allow-pull") as server:
        there = ("--target", server.target, "--compute", "client")
        made = run("create", *there, "--split", "validation", "-k", "5", "-o", str(manifest))
        assert made.returncode == 0, made.stderr
        verified = run("verify", *there, str(manifest))
        assert verified.returncode == 0, verified.stderr
    assert EvaluationSet.from_json(manifest.read_text()).split == "validation"


def test_what_is_wrong_is_told_in_a_line(server: ServerProcess, labels: Path, tmp_path: Path):
    there = ("--target", server.target)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    for arguments, text in (
        (("verify", *there, str(broken), str(labels)), "negserve evaluation set"),
        (("create", *there, "-o", str(tmp_path / "x.json")), "give either a split or triples"),
        (("create", *there, "--split", "testing", "-o", str(tmp_path / "x.json")), "compute"),
        (("create", *there, "--ids", "-o", str(tmp_path / "x.json"), str(labels)), "is not an id"),
    ):
        result = run(*arguments)
        assert result.returncode == 1
        assert text in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "x.json").exists()


@pytest.fixture(scope="module")
def manifest(server: ServerProcess, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "set.json"
    made = run("create", "--target", server.target, "-k", "3", "-o", str(path), str(labels))
    assert made.returncode == 0, made.stderr
    return path


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (("export", "-o", "x.csv", "MANIFEST", "LABELS"), 1, "give .npz or .parquet"),
        (("export", "-o", "nowhere/x.npz", "MANIFEST", "LABELS"), 1, "there is no folder nowhere"),
        (("create", "-o", "nowhere/x.json", "LABELS"), 1, "there is no folder nowhere"),
        (("export", "-o", "x.npz", "MANIFEST", "latin"), 1, "latin: 'utf-8' codec can't decode"),
        (("create", "-o", "x.json", "latin"), 1, "give UTF-8"),
        (("verify", "MANIFEST", "LABELS", "--dataset", "nothing"), 1, "nothing"),
        (
            ("verify", "--file", "cut.npz", "MANIFEST", "LABELS"),
            1,
            "no materialised evaluation set",
        ),
        (("verify", "newer.json", "LABELS"), 1, "version=2 is not legal"),
        (("verify", "other.json", "LABELS"), 1, "the graph has fingerprint"),
        (("verify", "short.json", "LABELS"), 1, "300 triples"),
        (("verify", "nowhere.json", "LABELS"), 2, "does not exist"),
        (("create", "LABELS"), 2, "Missing option '-o'"),
        (("create", "-o", "x.json", "--side", "left", "LABELS"), 2, "--side"),
        (("create", "-o", "x.json", "-k", "0", "LABELS"), 1, "num_negs_per_pos=0"),
        (("create", "-o", "x.json", "--seed", "-1", "LABELS"), 1, "seed=-1"),
        (("create", "-o", "x.json", "--kind", "mixture", "LABELS"), 1, "mixture"),
        (("create", "-o", "x.json", "none"), 0, "0 queries"),
    ],
)
def test_commands_end_with_a_status_and_a_line(
    server: ServerProcess,
    labels: Path,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, ...],
    status: int,
    text: str,
):
    monkeypatch.chdir(tmp_path)
    document = json.loads(manifest.read_text())
    (tmp_path / "newer.json").write_text(json.dumps({**document, "version": 2}))
    (tmp_path / "other.json").write_text(json.dumps({**document, "fingerprint": "0" * 64}))
    (tmp_path / "short.json").write_text(json.dumps({**document, "triples": "0" * 64}))
    (tmp_path / "latin").write_bytes("Köln\tlies_in\tGermany\n".encode("latin-1"))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    (tmp_path / "none").touch()
    before = set(tmp_path.iterdir())
    paths = {"MANIFEST": str(manifest), "LABELS": str(labels)}
    result = run(change[0], "--target", server.target, *(paths.get(e, e) for e in change[1:]))
    assert result.returncode == status, result.stderr
    assert text in (result.stdout if status == 0 else result.stderr)
    assert "Traceback" not in result.stderr
    if status:
        assert set(tmp_path.iterdir()) == before


def test_what_draws_is_imported_by_what_draws_alone():
    """``negserve --help`` and all other commands would wait for it."""
    code = (
        "import sys, negserve.cli as cli; "
        "print(*sorted(name for name in sys.modules if name.startswith('negserve.evaluation')), "
        "*({'torch', 'polars', 'numba', 'rich', 'zipfile'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_the_help_shows_the_usual_way():
    text = run("--help").stdout
    for name in ("create", "export", "verify"):
        assert f"negserve evaluation-set {name}" in text
