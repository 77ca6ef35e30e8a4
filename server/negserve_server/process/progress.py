"""Progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from negserve_server.jit.compiled import count_kernels, watching_compilation

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

logger = logging.getLogger(__name__)

#: Work that ends sooner gets no bar.
_FIRST_SECONDS = 1.0
#: Interval of log lines.
_LINE_SECONDS = 5.0
#: Interval in which a bar is brought up to date.
_BAR_SECONDS = 0.2


@contextmanager
def show_progress(what: str) -> Iterator[Work]:
    """Show that this block is at work, how far it is, and which kernels it compiles.

    :param what: the work, such as ``loading dataset world``
    """
    work = Work(what)
    thread = threading.Thread(target=work.run, name="negserve-progress", daemon=True)
    with watching_compilation(work.note):
        thread.start()
        try:
            yield work
        finally:
            work.end()
            thread.join()


class Work:
    """Work in progress, and the code of the thread that shows it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begin = time.monotonic()
        self._compiling: list[str] = []
        self._done = 0
        self._total: int | None = None
        self._counted_from = self._begin
        self._changed = threading.Event()
        self._is_over = False
        self._is_interactive = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def note(self, kernel: str) -> None:
        """Note that the compilation of a kernel begins; "" if the last one ends."""
        if kernel:
            self._compiling.append(kernel)
        elif self._compiling:
            self._compiling.pop()
        self._changed.set()

    def advance(self, what: str, done: int, total: int) -> None:
        """Say how far the work is: with rate and time left from the second call on.

        :param what: the step, such as ``indexing heads``
        :param done: items that are done, of whatever kind
        :param total: of how many
        """
        if self._total is None:
            self._counted_from = time.monotonic()
        self._what, self._done, self._total = what, done, total

    def end(self) -> None:
        """Let :meth:`run` end."""
        self._is_over = True
        self._changed.set()

    def run(self) -> None:
        """Show the work until it ends."""
        if self._is_interactive:
            self._changed.wait(_FIRST_SECONDS)
            if not self._is_over:
                self._show()
            return
        due = self._begin + _LINE_SECONDS
        while not self._is_over:
            self._changed.wait(max(due - time.monotonic(), 0))
            self._changed.clear()
            if not self._is_over and time.monotonic() >= due:
                logger.info("%s, for %.0f s now", self._state(), time.monotonic() - self._begin)
                due = time.monotonic() + _LINE_SECONDS

    def _state(self) -> str:
        compiling = self._compiling[-1:]
        if not compiling:
            return self._what + (f", {self._rate()}" if self._total is not None else "")
        num_ready, num_kernels = count_kernels()
        return f"compiling the kernel {compiling[0]}, {num_ready} of {num_kernels} are ready"

    def _rate(self) -> str:
        """Describe rate and time left."""
        assert self._total is not None
        seconds = time.monotonic() - self._counted_from
        text = f"{self._done:,} of {self._total:,}"
        if self._done and seconds > 0:
            rate = self._done / seconds
            text += f", {rate:,.0f}/s, {(self._total - self._done) / rate:.0f} s left"
        return text

    def _show(self) -> None:
        # Imported here only, since it takes a while.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        class Screen(Console):
            def show_cursor(self, show: bool = True) -> bool:
                """Keep the cursor visible: Ctrl-C ends the process without restoring it."""
                del show
                return False

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
        )
        # Log lines are printed above the bar.
        with Progress(
            *columns, console=Screen(file=sys.stderr), transient=True, redirect_stdout=False
        ) as bar:
            task = bar.add_task(self._state(), total=None)
            while not self._is_over:
                self._update(bar, task)
                self._changed.wait(_BAR_SECONDS)
                self._changed.clear()

    def _update(self, bar: Progress, task: TaskID) -> None:
        if self._compiling:
            num_ready, num_kernels = count_kernels()
            bar.update(task, description=self._state(), completed=num_ready, total=num_kernels)
        elif self._total is not None:
            bar.update(task, description=self._state(), completed=self._done, total=self._total)
