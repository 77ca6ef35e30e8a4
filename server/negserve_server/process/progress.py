"""What is said while work takes long: a progress bar on a terminal, log lines elsewhere."""

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

#: What is done sooner needs no bar.
_FIRST_SECONDS = 1.0
#: Between two log lines.
_LINE_SECONDS = 5.0


@contextmanager
def show_progress(what: str) -> Iterator[None]:
    """Say what this block is at, as long as it is, and which kernels it compiles.

    :param what: the work, such as ``loading dataset world``
    """
    work = _Work(what)
    thread = threading.Thread(target=work.run, name="negserve-progress", daemon=True)
    with watching_compilation(work.note):
        thread.start()
        try:
            yield
        finally:
            work.end()
            thread.join()


class _Work:
    """Work under way, and a thread that says so."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begin = time.monotonic()
        self._kernel = ""
        self._changed = threading.Event()
        self._is_over = False
        self._is_interactive = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def note(self, kernel: str) -> None:
        """Take the name of the kernel that compiles now."""
        if kernel:
            self._kernel = kernel
        self._changed.set()

    def end(self) -> None:
        """Let :meth:`run` end."""
        self._is_over = True
        self._changed.set()

    def run(self) -> None:
        """Say it, until the end."""
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
        if not self._kernel:
            return self._what
        num_ready, num_kernels = count_kernels()
        return f"compiling the kernel {self._kernel}, {num_ready} of {num_kernels} are ready"

    def _show(self) -> None:
        # Only here: elsewhere nobody needs to wait for its import.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        class Screen(Console):
            def show_cursor(self, show: bool = True) -> bool:
                """Leave it as it is: Ctrl-C ends the process at once, and would leave it hidden."""
                del show
                return False

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
        )
        # Lines of the log that come meanwhile go above the bar.
        with Progress(
            *columns, console=Screen(file=sys.stderr), transient=True, redirect_stdout=False
        ) as bar:
            task = bar.add_task(self._state(), total=None)
            while not self._is_over:
                self._update(bar, task)
                self._changed.wait()
                self._changed.clear()

    def _update(self, bar: Progress, task: TaskID) -> None:
        if self._kernel:
            num_ready, num_kernels = count_kernels()
            bar.update(task, description=self._state(), completed=num_ready, total=num_kernels)
