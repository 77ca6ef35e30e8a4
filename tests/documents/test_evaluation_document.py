"""docs/evaluation.md and evaluation_sets.md: programs print what they say; numbers are theirs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from negserve.evaluation import METRIC_NAMES
from tests.support import preloaded
from tests.support.graphs import REPOSITORY
from tests.support.server_process import ServerProcess

DOCUMENT = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8")
#: Each program with what it prints, empty for nothing.
_PROGRAM = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", flags=re.DOTALL)
PROGRAMS = _PROGRAM.findall(DOCUMENT)
#: The other program there is a sketch.
OF_SETS = _PROGRAM.findall(
    (REPOSITORY / "docs" / "evaluation_sets.md").read_text(encoding="utf-8")
)[:1]
ADDRESS = "127.0.0.1:7733"
#: In place of libraries that bring much else.
STAND_INS = REPOSITORY / "tests" / "support" / "evaluators"


@pytest.mark.parametrize(
    ("program", "output"), PROGRAMS + OF_SETS, ids=range(len(PROGRAMS + OF_SETS))
)
def test_programs_print_what_the_document_says(
    server: ServerProcess, tmp_path: Path, program: str, output: str
):
    path = tmp_path / "program.py"
    path.write_text(program.replace(ADDRESS, server.target))
    search = os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": search}
    done = preloaded.run([path], timeout=240, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output


def test_evaluators_of_others_find_what_we_find():
    """Checked here, as the outputs are compared with the document only."""
    ogb, tgb = (
        re.findall(r"\d\.\d{4}", output)
        for program, output in PROGRAMS
        if "import Evaluator\n" in program
    )
    assert ogb[:4] == ogb[4:]
    assert len(ogb) == 8
    assert tgb[0] == tgb[1]


def test_the_numbers_of_the_text_are_those_of_the_program():
    (worked,) = (output for _, output in PROGRAMS if output.count("MR") or "mean_rank" in output)
    raw, filtered = worked.split("head ")[1:]
    assert "tail 3 3.5 4 of 5" in raw
    assert "ranks 3 to 4 of 5" in DOCUMENT
    assert "tail 2 2.0 2 of 3" in filtered
    assert "the filtered rank is 2 of 3" in DOCUMENT
    assert f"index {1 - (2 - 1) / (2.5 - 1):.4f}" in filtered
    assert "1 − (2 − 1) / (2.5 − 1) = 0.3333" in DOCUMENT


def test_every_metric_is_described():
    text = DOCUMENT[DOCUMENT.index("## Metrics") : DOCUMENT.index("## A worked example")]
    for name in METRIC_NAMES:
        short = re.sub(r"(?<=hits_at_)\d+", "<k>", name)
        plain = short.removeprefix("z_").removeprefix("inverse_")
        words = (short, plain, plain.removesuffix("mean_rank"))
        assert any(word in text for word in words), name


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)[^)]*\)", DOCUMENT))
def test_links_have_targets(link: str):
    assert (REPOSITORY / "docs" / link).exists()
