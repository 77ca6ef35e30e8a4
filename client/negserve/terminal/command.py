"""Exit of a command that is interrupted, or whose output is no longer read."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import Any

import click

from negserve.terminal.ending import INTERRUPTED, end_at_once


class Commands(click.Group):
    """A command-line program that Ctrl-C ends silently, with status 130."""

    _is_interrupted = False

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is asked for."""
        try:
            return super().invoke(ctx)
        except Exception:
            # Libraries that clean up within what was interrupted may fail, as zipfile does.
            if self._is_interrupted:
                raise SystemExit(INTERRUPTED) from None
            raise

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program; with arguments, run inside another program, which handles signals."""
        # Keep any other handler of SIGINT, and ignored SIGINT, as in background jobs.
        is_mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if args or options or not is_mine:
            return super().main(*args, **options)
        signal.signal(signal.SIGINT, self._end)
        # Late in its exit, Python would let the signal end the process with another status.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        try:
            return super().main()
        finally:
            # Also during Python's exit, which would print an exception of a handler.
            signal.signal(signal.SIGINT, end_at_once)
            _flush()

    def _end(self, *_: object) -> None:
        self._is_interrupted = True
        signal.signal(signal.SIGINT, end_at_once)
        raise SystemExit(INTERRUPTED)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush again at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
