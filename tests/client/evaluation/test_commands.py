"""The commands ``negserve evaluation-set``."""

from __future__ import annotations

import subprocess
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


def test_the_help_shows_the_usual_way():
    text = run("--help").stdout
    for name in ("create", "export", "verify"):
        assert f"negserve evaluation-set {name}" in text
