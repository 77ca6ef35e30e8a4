"""Logging of this process: format, level and handler."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from negserve_server.logs.formatters import LogFormat, make_formatter


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``, which a progress bar replaces while it is shown.

    :ivar log_format: of its lines
    :ivar given: what it writes to instead, if that is not None
    """

    def __init__(self, log_format: LogFormat) -> None:
        logging.Handler.__init__(self)
        self.log_format: LogFormat = log_format
        self.given: TextIO | None = None
        self.setFormatter(make_formatter(log_format))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return self.given or sys.stderr


def set_up(level: str, log_format: LogFormat = "text") -> None:
    """Set up logging of this process.

    :param level: one of :data:`negserve_server.logs.log_level.LEVELS`
    :param log_format: one of :data:`negserve_server.logs.formatters.FORMATS`
    """
    logging.basicConfig(handlers=[_Handler(log_format)])
    set_level(level)


def set_level(level: str) -> None:
    """Log messages of this severity and above.

    :param level: one of :data:`negserve_server.logs.log_level.LEVELS`
    """
    logging.getLogger().setLevel(level.upper())
    # At debug it logs each instruction that it compiles.
    logging.getLogger("numba").setLevel(logging.WARNING)


def set_process(name: str) -> None:
    """Name this process in each line that it logs from now on.

    :param name: such as ``worker 1``
    """
    for handler in _handlers():
        handler.setFormatter(make_formatter(handler.log_format, name))


def write_to(stream: TextIO) -> None:
    """Log to a stream from now on, in place of ``sys.stderr``."""
    for handler in _handlers():
        handler.given = stream


def _handlers() -> list[_Handler]:
    return [each for each in logging.getLogger().handlers if isinstance(each, _Handler)]
