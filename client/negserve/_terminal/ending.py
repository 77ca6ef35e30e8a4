"""How the process ends when the command is interrupted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: As shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process in this block, for what a program imports."""
    # Not where SIGINT has another handler, or is ignored as in the background.
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
    """End the process as interrupted; a signal handler."""
    os._exit(INTERRUPTED)
