"""docs/training.md: its programs run, on the stated numbers of ranks."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.graphs import REPOSITORY
from tests.support.programs.ranks import Ranks
from tests.support.server_process import ServerProcess

DOCUMENT = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
ADDRESS = "127.0.0.1:7733"
#: Which program is meant, by what it imports or says.
ACCELERATE, TORCHDATA = "import Accelerator\n", "import StatefulDataLoader\n"
SILENT = [program for program in PROGRAMS if "print(" not in program]


def run(program: str, server: ServerProcess, folder: Path, num_ranks: int = 1) -> list[str]:
    assert program.count(ADDRESS) == 1
    path = folder / "program.py"
    path.write_text(program.replace(ADDRESS, server.target))
    environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if num_ranks == 1:
        done = preloaded.run(
            [path], timeout=240, check=True, cwd=folder, env={**os.environ, **environment}
        )
        return sorted(done.stdout.splitlines())
    ranks = Ranks(num_ranks, [str(path)], cwd=folder, env=environment, imports=["accelerate"])
    status, output, errors = ranks.finish(240)
    assert status == 0, errors
    return sorted(output.splitlines())


def the_one(says: str) -> str:
    (program,) = (each for each in PROGRAMS if says in each)
    return program


@pytest.mark.parametrize("program", SILENT)
def test_programs_without_output(server: ServerProcess, tmp_path: Path, program: str):
    assert run(program, server, tmp_path) == []


def test_the_program_with_accelerate(server: ServerProcess, tmp_path: Path):
    left = (5408 - 4 * 2 * 512) // 2
    assert run(the_one(ACCELERATE), server, tmp_path, num_ranks=2) == [
        f"{rank} goes on with {left} triples" for rank in (0, 1)
    ]


def test_the_program_with_torchdata(server: ServerProcess, tmp_path: Path):
    assert run(the_one(TORCHDATA), server, tmp_path) == [
        f"epoch 7 gives {5408 - 4 * 512} triples",
        "epoch 8 gives 5408 triples",
    ]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)[^)]*\)", DOCUMENT))
def test_links_have_targets(link: str):
    assert (REPOSITORY / "docs" / link).exists()


def test_every_program_is_run():
    assert len(SILENT) + 2 == len(PROGRAMS)
