"""How commands end when they are interrupted: at once, whatever they are at."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

#: As shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130


class Commands(click.Group):
    """A program that Ctrl-C ends at once, with status 130 and without a word.

    Also in the midst of compiled code that runs for seconds; nothing is put in order. What serves
    takes over with a signal handler of its event loop.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program; given arguments, as a part of another one, which minds its signals."""
        if args or options or not _is_mine():
            return super().main(*args, **options)
        _watch()
        _outlive_hang_ups()
        # In its last steps Python would let the signal end the process with another status.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        try:
            return super().main()
        finally:
            # Also while Python ends, where it would print what a handler raises.
            signal.signal(signal.SIGINT, end_at_once)
            _flush()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process in this block, for what a program imports."""
    if not _is_mine():
        yield
        return
    writer = _watch()
    before = _outlive_hang_ups()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(-1)
        os.close(writer)


def end_at_once(*_: object) -> None:
    """End the process as interrupted; a signal handler."""
    os._exit(INTERRUPTED)


def end_at_hang_up() -> None:
    """Let SIGHUP end the process again: for commands that read nothing again."""
    if signal.getsignal(signal.SIGHUP) is _do_nothing:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _outlive_hang_ups() -> Any:
    """Let SIGHUP pass: it asks a server to read its files again, which it has not yet."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _do_nothing)
    return before


def _do_nothing(*_: object) -> None:
    pass


def _is_mine() -> bool:
    # Not where SIGINT has another handler, or is ignored as in the background.
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def _watch() -> int:
    """Have a thread end the process; closing what this gives ends the thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def read() -> None:
        while numbers := os.read(reader, 1):
            if numbers[0] == signal.SIGINT:
                end_at_once()
        os.close(reader)

    threading.Thread(target=read, name="negserve-watch", daemon=True).start()
    signal.signal(signal.SIGINT, end_at_once)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return writer


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
