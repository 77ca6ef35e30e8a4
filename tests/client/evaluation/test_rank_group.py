"""Ranks of torch.distributed share an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from negserve.evaluation import EvaluationReport
from tests.support import preloaded
from tests.support.graphs import REPOSITORY, load


def run(folder: Path, num_ranks: int, what: str = "fine") -> Path:
    folder.mkdir()
    command = ["-m", "tests.support.children.evaluating_ranks", str(folder), str(num_ranks), what]
    preloaded.run(command, cwd=REPOSITORY, timeout=240, check=True)
    return folder


def test_reports_do_not_depend_on_how_many_ranks_share_them(tmp_path: Path):
    texts = {
        (num_ranks, rank): (folder / f"{rank}.json").read_text()
        for num_ranks in (1, 2, 3)
        for folder in [run(tmp_path / str(num_ranks), num_ranks)]
        for rank in range(num_ranks)
    }
    assert len(set(texts.values())) == 1
    report = EvaluationReport.from_json(texts[1, 0])
    assert len(report) == 2 * len(load("world").splits["testing"])


@pytest.mark.parametrize(
    ("what", "other", "last"),
    [
        (
            "broken",
            "NegserveError: the evaluation failed on 1 of 2 ranks; their errors say why",
            "ZeroDivisionError: of the model",
        ),
        (
            "different",
            "InvalidRequestError: the ranks evaluate different things",
            "InvalidRequestError: the ranks evaluate different things",
        ),
        (
            "outside",
            "NegserveError: the evaluation failed on 1 of 2 ranks; their errors say why",
            "InvalidRequestError: head id ",
        ),
    ],
)
def test_no_rank_waits_for_one_that_failed(tmp_path: Path, what: str, other: str, last: str):
    folder = run(tmp_path / what, 2, what)
    assert (folder / "0.txt").read_text().startswith(other)
    assert (folder / "1.txt").read_text().startswith(last)
