"""The README's programs run as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.graphs import REPOSITORY, load
from tests.support.oracle import known
from tests.support.server_process import ServerProcess

import numpy as np  # isort: skip

README = (REPOSITORY / "README.md").read_text()
ADDRESS = "127.0.0.1:7733"


def run(command: list[str], server: ServerProcess, stdin: str = "") -> list[str]:
    result = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": str(Path(sys.executable).parent), "NEGSERVE_TARGET": server.target},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def assert_negatives_of_the_capital(lines: list[list[str]]) -> None:
    graph = load("world")
    assert len(lines) == 4
    for head, relation, tail in lines:
        assert relation == "has_capital"
        assert (head == "Germany") != (tail == "Berlin")
        row = [graph.entity_to_id[head], graph.relation_to_id[relation], graph.entity_to_id[tail]]
        assert not known(graph, np.array([row]), ("training",)).any()


def test_the_client_program(server: ServerProcess):
    program, _ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in program.splitlines() if line.strip()]) == 10
    assert ADDRESS in program
    program = program.replace(ADDRESS, server.target)
    lines = preloaded.run(["-c", program], timeout=120, check=True).stdout.splitlines()
    relation = " has_capital "
    assert_negatives_of_the_capital(
        [[*line.split(relation)[:1], "has_capital", *line.split(relation)[1:]] for line in lines]
    )


def test_the_shell_commands(server: ServerProcess):
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL) if "printf" in b)
    info, sample = block.strip().splitlines()
    assert any("has_capital" in line for line in run(info.split(), server))
    _, _, command = sample.partition(" | ")
    lines = run(command.split(), server, stdin="Germany\thas_capital\tBerlin\n")
    assert_negatives_of_the_capital([line.split("\t") for line in lines])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_have_targets(link: str):
    assert (REPOSITORY / link).exists()
