"""SIGHUP: files are read again, without an effect on open calls."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from negserve_server.errors import MalformedFile
from negserve_server.logs.audit import audit


class Reloading:
    """Handles SIGHUP from its construction on: reads files again.

    A terminal that hangs up sends SIGHUP, too. Then the server drains and ends, unless it was
    started to outlive its terminal (``nohup``).
    """

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], object]] = {}
        self._is_due = False
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._has_terminal = not is_ignored and _has_terminal()
        signal.signal(signal.SIGHUP, self._note)

    def add(self, what: str, read: Callable[[], object]) -> None:
        """Register something to read again.

        :param what: noun for the log
        :param read: reads it again; may raise MalformedFile, and then keeps the previous content
        """
        self._parts[what] = read

    @property
    def is_due(self) -> bool:
        """Whether SIGHUP came before the event loop handles it."""
        return self._is_due

    @property
    def has_lost_terminal(self) -> bool:
        """Whether the terminal that started the server is gone."""
        return self._has_terminal and not _has_terminal()

    def read(self) -> None:
        """Read everything again; what can't be read is kept and logged as an error."""
        self._is_due = False
        done = []
        for what, read in self._parts.items():
            try:
                read()
            except MalformedFile as error:
                text = "SIGHUP: the %s stays as it was: %s"
                audit("sighup", text, what, error, level=logging.ERROR)
            else:
                done.append(what)
        audit("sighup", "SIGHUP: read again: %s", ", ".join(done) or "nothing")

    def _note(self, *_: object) -> None:
        self._is_due = True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
