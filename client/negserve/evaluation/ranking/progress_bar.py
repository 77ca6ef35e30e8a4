"""The progress bar of an evaluation, on terminals."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int, *, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that advances the bar; it does nothing without a terminal.

    :param total: steps of the work
    :param is_shown: False for none
    """
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if not (is_shown and is_terminal):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)
