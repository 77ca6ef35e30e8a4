"""Exit of commands on Ctrl-C: at once, also from compiled code."""

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

#: Exit status by convention of shells: 128 plus the number of SIGINT.
INTERRUPTED = 130
#: That of :class:`Commands`, until it is stopped.
_watch: _Watch | None = None


class Commands(click.Group):
    """A command group that Ctrl-C ends at once, with status 130 and without a message.

    This also interrupts compiled code that runs for seconds; no clean-up runs. The server replaces
    this by signal handlers of its event loop.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program. If called with arguments, leave signals to the caller."""
        if args or options or not _is_mine():
            return super().main(*args, **options)
        global _watch  # noqa: PLW0603
        _watch = _Watch()
        _ignore_sighup()
        # While Python exits, the signal would end the process with another status.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        try:
            return super().main()
        finally:
            # Also while Python exits, when it would print the exception of a handler.
            signal.signal(signal.SIGINT, end_at_once)
            _flush()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process in this block; for the imports of a program."""
    if not _is_mine():
        yield
        return
    watch = _Watch()
    before = _ignore_sighup()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watch.stop()


def end_at_once(*_: object) -> None:
    """End the process as interrupted; a signal handler."""
    os._exit(INTERRUPTED)


def end_at_sighup() -> None:
    """Let SIGHUP end the process again; for commands that do not reload files."""
    if signal.getsignal(signal.SIGHUP) is _do_nothing:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _ignore_sighup() -> Any:
    """Ignore SIGHUP, which asks a server to reload files, until it has read them."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _do_nothing)
    return before


def _do_nothing(*_: object) -> None:
    pass


def _is_mine() -> bool:
    # Not if SIGINT has another handler, or is ignored, as in the background.
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


class _Watch:
    """A thread that ends the process on SIGINT, until it is stopped."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._read, name="negserve-watch", daemon=True)
        self._thread.start()
        signal.signal(signal.SIGINT, end_at_once)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def _read(self) -> None:
        while numbers := os.read(self._reader, 1):
            if numbers[0] == signal.SIGINT:
                end_at_once()
        os.close(self._reader)

    def stop(self) -> None:
        """End the thread, and wait for its end: a process with threads must not fork."""
        signal.set_wakeup_fd(-1)
        os.close(self._writer)
        self._thread.join()


def end_in_order() -> None:
    """Let SIGINT end the program with an exception, so that it removes what is temporary."""
    stop_watching()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))


def stop_watching() -> None:
    """End the thread of :class:`Commands`, since the caller handles SIGINT itself, and forks."""
    global _watch
    if _watch is not None:
        watch, _watch = _watch, None
        watch.stop()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush again at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
