"""The progress bar of an evaluation, at a terminal."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import Tensor

from negserve.evaluation import evaluate
from negserve.types.config import Slot
from tests.client.evaluation.test_evaluate import TiedScores
from tests.support.graphs import load


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, kind: str = "xterm") -> Iterator[list[str]]:
    """Make standard error a terminal in the block, which puts what it shows into the list."""
    ours, own = pty.openpty()
    shown, texts = [], []

    def read() -> None:
        try:
            while block := os.read(ours, 10_000):
                shown.append(block)
        except OSError:  # nobody writes any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(own, "w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        patch.setenv("TERM", kind)
        patch.setenv("COLUMNS", "120")
        yield texts
    reader.join(60)
    os.close(ours)
    texts.append(b"".join(shown).decode())


def test_batches_are_counted_at_a_terminal(monkeypatch: pytest.MonkeyPatch):
    graph = load("world")
    with terminal(monkeypatch) as texts:
        evaluate(TiedScores(graph), graph, graph.splits["testing"][:100], batch_size=10)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", texts[0])
    assert re.search(r"evaluating .*━.* *0/20 ", text)
    assert re.search(r"evaluating .*━.* 20/20 ", text)
    assert texts[0].endswith("\x1b[2K"), "the bar stays"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_ends_an_evaluation_leaves_the_cursor(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    graph = load("world")

    def broken(pairs: Tensor, slot: Slot, /) -> Tensor:
        raise error

    with terminal(monkeypatch) as texts, pytest.raises(error):
        evaluate(broken, graph, graph.splits["testing"][:100], batch_size=10)
    hidden, shown = texts[0].rfind("\x1b[?25l"), texts[0].rfind("\x1b[?25h")
    assert 0 <= hidden < shown


@pytest.mark.parametrize(("progress", "kind"), [(False, "xterm"), (True, "dumb")])
def test_nothing_is_shown_where_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, progress: bool, kind: str
):
    graph = load("world")
    with terminal(monkeypatch, kind) as texts:
        evaluate(TiedScores(graph), graph, graph.splits["testing"][:5], progress=progress)
    assert texts == [""]
