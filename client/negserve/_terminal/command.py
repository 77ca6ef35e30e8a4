"""How the command ends when it is interrupted, or when nobody reads what it writes."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import Any

import click

from negserve._terminal.ending import INTERRUPTED, end_at_once


class Commands(click.Group):
    """A program that Ctrl-C ends with status 130 and without a word."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program; given arguments, as a part of another one, which minds its signals."""
        # Where SIGINT has another handler, or is ignored as in the background, that stays.
        is_mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if args or options or not is_mine:
            return super().main(*args, **options)
        signal.signal(signal.SIGINT, _end)
        # In its last steps Python would let the signal end the process with another status.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        try:
            return super().main()
        finally:
            # Also while Python ends, where it would print what a handler raises.
            signal.signal(signal.SIGINT, end_at_once)
            _flush()


def _end(*_: object) -> None:
    signal.signal(signal.SIGINT, end_at_once)
    raise SystemExit(INTERRUPTED)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
