"""Exit of a process that is interrupted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Status, as in shells: 128 plus the number of SIGINT.
INTERRUPTED = 130


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process at once in this block, such as a program's imports."""
    # Keep any other handler of SIGINT, and ignored SIGINT, as in background jobs.
    is_mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_mine:
        signal.signal(signal.SIGINT, end_at_once)
    try:
        yield
    finally:
        if is_mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_once(*_: object) -> None:
    """End the process with the status of an interrupt; a signal handler."""
    os._exit(INTERRUPTED)
