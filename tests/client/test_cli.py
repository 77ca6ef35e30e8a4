"""The command-line program ``negserve``."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from negserve import SamplerConfig
from tests.support import preloaded
from tests.support.graphs import load
from tests.support.oracle import known
from tests.support.server_process import ServerProcess, server_process

GERMANY = "Germany\thas_capital\tBerlin\n"
FRANCE = "France\tshares_border_with\tSpain\n"


def run(
    server: ServerProcess, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    command, *rest = arguments
    return preloaded.run(
        ["-m", "negserve.cli", command, "--target", server.target, *rest],
        input=stdin, timeout=60,
    )  # fmt: skip


def test_info_lists_datasets_and_relations(server: ServerProcess):
    graph = load("world")
    result = run(server, "info")
    assert result.stdout.startswith("server ")
    assert graph.fingerprint in result.stdout
    one = json.loads(run(server, "info", "world", "--json").stdout)[0]
    assert one["num_entities"] == graph.num_entities
    assert [each["label"] for each in one["relations"]] == list(graph.relation_to_id)
    text = run(server, "info", "world").stdout
    assert "has_capital" in text
    assert "P(head)" in text


def test_sample_reads_labels_and_prints_negatives(server: ServerProcess):
    graph = load("world")
    options = ("sample", "-k", "10", "--filtered", "--seed", "3", "--sampler", "bernoulli")
    result = run(server, *options, stdin=GERMANY + "\n" + FRANCE)
    assert result.returncode == 0, result.stderr
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert len(rows) == 20
    entities, relations = graph.entity_to_id, graph.relation_to_id
    triples = np.array([[entities[h], relations[r], entities[t]] for h, r, t in rows])
    assert not known(graph, triples, ("training",)).any()
    again = run(server, *options, "--position", "1", stdin=FRANCE)
    assert again.stdout.splitlines() == result.stdout.splitlines()[10:]


def test_sample_reads_ids_and_prints_json_lines(server: ServerProcess):
    result = run(
        server, "sample", "--ids", "--format", "jsonl", "-k", "3", "--position", "8",
        "--slot", "relation", stdin="5\t6\t7\n8\t9\t10\n",
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["position"] for line in lines] == [8, 9]
    assert [line["positive"] for line in lines] == [[5, 6, 7], [8, 9, 10]]
    for line in lines:
        assert line["mask"] == [True] * 3
        for negative in line["negatives"]:
            assert negative[::2] == line["positive"][::2]
            assert negative[1] != line["positive"][1]


def rows_of(result: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert result.returncode == 0, result.stderr
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_sample_draws_candidates_only(server: ServerProcess, tmp_path: Path):
    path = tmp_path / "candidates.txt"
    path.write_text("France\n\nSpain\r\nKenya\n")
    rows = rows_of(run(server, "sample", "-k", "30", "--candidates", str(path), stdin=GERMANY))
    drawn = {row[0] for row in rows} | {row[2] for row in rows}
    assert drawn == {"Germany", "Berlin", "France", "Spain", "Kenya"}
    path.write_text("7\n9\n")
    options = ("sample", "-k", "30", "--ids", "--slot", "head", "--candidates", str(path))
    assert {row[0] for row in rows_of(run(server, *options, stdin="5\t6\t7\n"))} == {"7", "9"}


def test_sample_draws_a_mixture(server: ServerProcess):
    graph = load("world")
    constraints = graph.type_constraints
    assert constraints is not None
    capitals = constraints.tails[constraints.tails[:, 0] == graph.relation_to_id["has_capital"]]
    allowed = {label for label, i in graph.entity_to_id.items() if i in set(capitals[:, 1])}

    def num_forbidden(*options: str) -> int:
        rows = rows_of(run(server, "sample", "-k", "40", "--slot", "tail", *options, stdin=GERMANY))
        return sum(row[2] not in allowed for row in rows)

    assert num_forbidden("--kind", "typed") == 0
    assert 0 < num_forbidden("--mixture", "typed=1,basic=1") <= 20
    assert num_forbidden("--kind", "mixture", "--mixture", "basic=3, typed=1") > 20


def test_sample_masks_what_is_known(server: ServerProcess):
    graph = load("world")
    options = ("sample", "-k", "4000", "--filtered", "--filter-mode", "mask", "--slot", "head")
    result = run(server, *options, "--format", "jsonl", stdin=FRANCE)
    line = json.loads(result.stdout)
    entities, relations = graph.entity_to_id, graph.relation_to_id
    triples = np.array([[entities[h], relations[r], entities[t]] for h, r, t in line["negatives"]])
    is_known = known(graph, triples, ("training",))
    assert is_known.any()
    assert line["mask"] == (~is_known).tolist()
    text = run(server, *options, stdin=FRANCE)
    assert len(rows_of(text)) == 4000 - is_known.sum()
    for stderr in (result.stderr, text.stderr):
        assert f"{is_known.sum()} negatives are not valid" in stderr


def test_sample_draws_nothing_twice(server: ServerProcess):
    options = ("sample", "-k", "2570", "--distinct", "--slot", "tail", "--ids")
    rows = rows_of(run(server, *options, stdin="5\t6\t7\n"))
    assert {int(row[2]) for row in rows} == set(range(2571)) - {7}


def test_sample_shares_values_in_chunks(server: ServerProcess):
    options = ("sample", "-k", "4", "--chunk-size", "2", "--slot", "tail", "--ids")
    rows = rows_of(run(server, *options, stdin="5\t6\t7\n8\t6\t9\n1\t6\t2\n"))
    tails = [[row[2] for row in rows[begin : begin + 4]] for begin in (0, 4, 8)]
    assert tails[0] == tails[1] != tails[2]


def test_sample_prints_log_probabilities(server: ServerProcess):
    options = ("sample", "-k", "6", "--kind", "degree", "--alpha", "0", "--log-q", "--ids")
    rows = rows_of(run(server, *options, stdin="5\t6\t7\n"))
    expected = pytest.approx(np.log(0.5 / 2570), abs=1e-6)
    assert [float(row[3]) for row in rows] == [expected] * 6
    line = json.loads(run(server, *options, "--format", "jsonl", stdin="5\t6\t7\n").stdout)
    assert line["log_q"] == [expected] * 6
    assert [len(negative) for negative in line["negatives"]] == [3] * 6


@pytest.mark.parametrize(
    ("options", "stdin", "told"),
    [
        ((), GERMANY + "Germany\tBerlin\n", "line 2: 2 tab-separated fields; expected 3"),
        ((), "Atlantis\thas_capital\tBerlin\n", "head 'Atlantis' is not in the vocabulary"),
        (("--ids",), "1\t2\tx\n", "tail 'x' is not an id"),
        (("--ids",), "1\t2\t99999\n", "tail id 99999 of row 0 is out of range"),
        (("-k", "0"), GERMANY, "num_negs_per_pos=0"),
        ((), "Germnay\thas_capital\tBerlin\n", "vocabulary; did you mean 'Germany'"),
        ((), "Germany\thas capital\tBerlin\n", "vocabulary; did you mean 'has_capital'?"),
        ((), "Ger\x1b[2Jmany\thas_capital\tBerlin\n", "head 'Ger\\x1b[2Jmany' is not"),
        (("--dataset", "moon"), GERMANY, "there is no dataset 'moon'"),
        (("--dataset", "wrold"), GERMANY, "; did you mean 'world'?"),
        (("--sampler", "x"), GERMANY, "is not one of"),
        (("--mixture", "typed"), GERMANY, "'typed' is not KIND=SHARES, such as typed=1"),
        (("--mixture", "best=1"), GERMANY, "mixture=(('best', 1),) is not legal"),
        (("--kind", "mixture"), GERMANY, "give parts if and only if kind is mixture"),
        (("--kind", "basic", "--mixture", "typed=1"), GERMANY, "if and only if kind is mixture"),
        (("--alpha", "0.5"), GERMANY, "without kind degree"),
        (("--filter-mode", "mask"), GERMANY, "--filter-mode has no effect without --filtered"),
        (("--filter-mode", "exact"), GERMANY, "or leave --filter-mode out"),
        (("--split", "validation"), GERMANY, "--split has no effect without --filtered"),
        (("--split", "training"), GERMANY, "Add --filtered, or leave --split out"),
        (("--chunk-size", "0"), GERMANY, "chunk_size=0"),
        (("--distinct", "--log-q"), GERMANY, "log_q=True is not legal"),
        (("--candidates", "{empty}"), GERMANY, "has no candidates; give one a line"),
        (("--candidates", "{atlantis}"), GERMANY, "line 2: candidate 'Atlantis' is not in the"),
        (("--ids", "--candidates", "{atlantis}"), "1\t2\t3\n", "candidate 'France' is not an id"),
    ],
)
def test_errors_are_one_clear_line(server: ServerProcess, tmp_path, options, stdin, told):  # type: ignore[no-untyped-def]
    files = {"empty": tmp_path / "empty.txt", "atlantis": tmp_path / "atlantis.txt"}
    files["empty"].write_text("\n")
    files["atlantis"].write_text("France\nAtlantis\n")
    options = [option.format(**files) for option in options]
    result = run(server, "sample", *options, stdin=stdin)
    assert result.returncode != 0
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_a_filter_that_leaks_is_warned_of(server: ServerProcess):
    result = run(server, "sample", "--filtered", "--split", "validation", stdin=GERMANY)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Warning: filter_splits has validation: ")
    filtered = run(server, "sample", "--filtered", "--split", "training", stdin=GERMANY)
    assert filtered.stderr == ""


def test_no_server_is_one_clear_line():
    result = preloaded.run(
        ["-m", "negserve.cli", "info", "--target", "127.0.0.1:1", "--timeout", "2"],
        timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["info", "sample"])
def test_help_explains_and_has_examples(command: str):
    result = preloaded.run(
        ["-m", "negserve.cli", command, "--help"],
        timeout=60, check=True,
    )  # fmt: skip
    assert "NEGSERVE_TARGET" in result.stdout
    if command == "sample":
        for field in fields(SamplerConfig):
            if field.name not in ("corruption_scheme", "filter_splits", "algorithm_version"):
                assert "--" + field.name.replace("_", "-") in result.stdout


def test_labels_of_others_move_no_cursor(tmp_path: Path):
    """A graph with hostile labels: escaped at a terminal, unchanged for a program."""
    hostile = {"entity": "\x1b[2Ja\u202eb", "relation": "r\x9b2J"}
    path = tmp_path / "graph.tsv"
    path.write_text(f"{hostile['entity']}\t{hostile['relation']}\tb\nb\t{hostile['relation']}\tc\n")
    line = f"{hostile['entity']}\t{hostile['relation']}\tb\n"
    options = ("sample", "--dataset", "x", "-k", "20", "--slot", "tail")
    with server_process("--dataset", f"x={path}") as server:
        shown = run(server, "info", "x").stdout
        as_json = run(server, "info", "x", "--json").stdout
        piped = run(server, *options, stdin=line).stdout
        terminal, own = pty.openpty()
        command = ["-m", "negserve.cli", *options, "--target", server.target]
        preloaded.run(command, input=line, stdout=own, timeout=60, check=True)
        os.close(own)
        at_terminal = os.read(terminal, 100_000).decode()
        os.close(terminal)
    inspected = preloaded.run(
        ["-m", "negserve_server.cli", "report", str(path)],
        timeout=200, check=True,
    )  # fmt: skip
    for text in (shown, as_json, at_terminal, inspected.stdout):
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", text)
    for text in (shown, as_json, inspected.stdout):
        assert "r\\u009b2J" in text
    assert json.loads(as_json)[0]["relations"][0]["label"] == hostile["relation"]
    assert "\\u001b[2Ja\\u202eb" in at_terminal
    assert piped.startswith(hostile["entity"])
