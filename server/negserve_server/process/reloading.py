"""SIGHUP: files are read again, and no call notices."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from negserve_server.errors import MalformedFile

logger = logging.getLogger(__name__)


class Reloading:
    """What SIGHUP does; to be made where it may come from then on.

    A terminal that hangs up sends it, too: then there is nobody to read anything again for, and
    the server ends in order, unless it was started to outlive its terminal (``nohup``).
    """

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], object]] = {}
        self._is_due = False
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._has_terminal = not is_ignored and _has_terminal()
        signal.signal(signal.SIGHUP, self._note)

    def add(self, what: str, read: Callable[[], object]) -> None:
        """Let something be read again.

        :param what: the noun, for the log
        :param read: does it; may raise MalformedFile, and leaves what it had then
        """
        self._parts[what] = read

    @property
    def is_due(self) -> bool:
        """Tell whether SIGHUP came before anybody took it over."""
        return self._is_due

    @property
    def has_lost_terminal(self) -> bool:
        """Tell whether the terminal that the server was started at is gone."""
        return self._has_terminal and not _has_terminal()

    def read(self) -> None:
        """Read all again; what can't be read stays as it was, and the log says so."""
        self._is_due = False
        done = []
        for what, read in self._parts.items():
            try:
                read()
            except MalformedFile as error:
                logger.error("SIGHUP: the %s stays as it was: %s", what, error)
            else:
                done.append(what)
        logger.info("SIGHUP: read again: %s", ", ".join(done) or "nothing")

    def _note(self, *_: object) -> None:
        self._is_due = True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
