"""``negserve-server report``: tables, JSON, refusals."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from negserve_server.cli import main
from negserve_server.report import false_negative_report
from tests.support.graphs import load


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["report", *arguments])
    assert result.exit_code == status, result.output
    return result


def report(*arguments: str) -> dict[str, Any]:
    (line,) = run("--json", *arguments).stdout.splitlines()
    made: dict[str, Any] = json.loads(line)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A graph of two splits: three heads, one tail."""
    (tmp_path / "train.txt").write_text("a\tr\tx\nb\tr\tx\nx\ts\ta\n")
    (tmp_path / "test.txt").write_text("x\tr\tx\n")
    return tmp_path


def test_json_is_the_report_of_all_kinds_and_relations() -> None:
    graph = load("world")
    reports = false_negative_report(graph)
    assert graph.relations is not None
    labels = graph.relations.labels()
    made = report("-k", "3")
    assert made["fingerprint"] == graph.fingerprint
    assert made["reports"] == [one.to_dict(3, labels=labels) for one in reports.values()]
    assert "typed" in reports
    assert len(made["reports"][0]["relations"]) == np.count_nonzero(
        graph.relation_counts.num_triples
    )


def test_options_choose_kinds_splits_and_relations(folder: Path) -> None:
    made = report(str(folder), "--kind", "degree", "--kind", "basic", "--split", "testing")
    assert [one["kind"] for one in made["reports"]] == ["degree", "basic"]
    assert {tuple(one["splits"]) for one in made["reports"]} == {("testing",)}
    # Of a, b and x, one other head is known, and no other tail.
    (of_r, of_s) = made["reports"][1]["relations"]
    assert of_r["relation"] == "r"
    assert of_r["slots"]["head"]["probability"] == 0.5
    assert of_r["slots"]["tail"]["probability"] == 0
    assert of_r["probability"] == 0.25
    assert of_r["expected_false_negatives"] == 0.5
    assert of_s["probability"] == 0
    assert len(report(str(folder), "--top", "1")["reports"][0]["relations"]) == 1


def test_tables_show_the_same_numbers(folder: Path) -> None:
    output = run(str(folder), "--kind", "basic", "--kind", "degree", "-k", "1000").stdout
    lines = output.splitlines()
    assert lines[0].split(maxsplit=1) == ["known", "triples of training, testing"]
    assert lines[1].split(maxsplit=1) == ["positives", "3 training triples"]
    assert lines[2].split(maxsplit=1) == ["negatives", "1,000 for each"]
    # Both other heads of r are known, of its two triples.
    (total,) = (line for line in lines if line.startswith("basic   "))
    assert total.split() == ["basic", "33.3333", "%", "1,000.0", "0"]
    assert any(line.startswith("degree (alpha 0.75)  ") for line in lines)
    at = lines.index("basic: 2 of 2 relations")
    assert lines[at + 1].split() == [
        "triples", "head", "tail", "probability", "expected", "relation",
    ]  # fmt: skip
    rows = [" ".join(line.split()) for line in lines[at + 2 :][:2]]
    assert rows == [
        "2 100.0000 % 0.0000 % 50.0000 % 1,000.0 r",
        "1 0.0000 % 0.0000 % 0.0000 % 0.0 s",
    ]
    # Columns are aligned.
    assert len({line.rindex("  ") for line in lines[at + 1 : at + 4]}) == 1


def test_tables_have_twenty_relations_unless_told_otherwise() -> None:
    assert "basic: 20 of 29 relations" in run("--kind", "basic").stdout
    assert "basic: 29 of 29 relations" in run("--kind", "basic", "--top", "0").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--kind", "typed"], 1, "no type constraints"),
        (["--split", "validation"], 1, "this graph has training, testing"),
        (["--kind", "mixture"], 2, "'mixture' is not one of"),
        (["-k", "0"], 2, "0 is not in the range"),
        (["--top", "-1"], 2, "-1 is not in the range"),
    ],
)
def test_refusals_name_the_remedy(
    folder: Path, arguments: list[str], status: int, message: str
) -> None:
    assert message in run(str(folder), *arguments, status=status).output


def test_a_missing_graph(tmp_path: Path) -> None:
    assert "Error" in run(str(tmp_path / "none"), status=1).output


def read_to_the_end(terminal: int) -> str:
    """Read what a terminal shows, of any length, up to a line that ends it."""
    said = b""
    while b"\x04end" not in said:
        said += os.read(terminal, 4096)
    return said.decode()


@pytest.mark.parametrize("patience", [-1, 600])
def test_progress_is_told_to_a_terminal_that_waits(patience: int) -> None:
    program = (
        f"from negserve_server import cli; from negserve_server.commands import report; "
        f"report._PATIENCE = {patience}; "
        "cli.main(['report', '--kind', 'basic', '--json'])"
    )
    terminal, stderr = pty.openpty()
    try:
        reader = ThreadPoolExecutor(1).submit(read_to_the_end, terminal)
        result = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=stderr, timeout=120
        )
        os.write(stderr, b"\x04end\n")
        said = reader.result(60)
    finally:
        os.close(terminal)
        os.close(stderr)
    assert result.returncode == 0, said
    json.loads(result.stdout)
    assert ("counting: basic ..." in said) == (patience < 0)


def test_without_a_terminal_there_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("negserve_server.commands.report._PATIENCE", -1)
    assert run("--kind", "basic").stderr == ""
