"""The command ``negserve``."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.support.graphs import load
from tests.support.oracle import known
from tests.support.server_process import ServerProcess

GERMANY = "Germany\thas_capital\tBerlin\n"
FRANCE = "France\tshares_border_with\tSpain\n"


def run(
    server: ServerProcess, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    command, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "negserve.cli", command, "--target", server.target, *rest],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_info_lists_datasets_and_relations(server: ServerProcess):
    graph = load("world")
    result = run(server, "info")
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


@pytest.mark.parametrize(
    ("options", "stdin", "told"),
    [
        ((), GERMANY + "Germany\tBerlin\n", "line 2: 2 tab-separated fields where 3 are due"),
        ((), "Atlantis\thas_capital\tBerlin\n", "head 'Atlantis' is not in the vocabulary"),
        (("--ids",), "1\t2\tx\n", "tail 'x' is no id"),
        (("--ids",), "1\t2\t99999\n", "tail id 99999 of row 0 is out of range"),
        (("-k", "0"), GERMANY, "num_negs_per_pos=0"),
        (("--dataset", "moon"), GERMANY, "there is no dataset 'moon'"),
        (("--sampler", "x"), GERMANY, "is not one of"),
    ],
)
def test_errors_are_one_clear_line(server: ServerProcess, options, stdin, told):  # type: ignore[no-untyped-def]
    result = run(server, "sample", *options, stdin=stdin)
    assert result.returncode != 0
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_no_server_is_one_clear_line():
    result = subprocess.run(
        [sys.executable, "-m", "negserve.cli", "info", "--target", "127.0.0.1:1", "--timeout", "2"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["info", "sample"])
def test_help_teaches(command: str):
    result = subprocess.run(
        [sys.executable, "-m", "negserve.cli", command, "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "NEGSERVE_TARGET" in result.stdout
