"""Logging: format, level and handler."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TextIO

from negserve.terminal.nearest import did_you_mean
from negserve.types.checks.text import printable
from negserve_server.errors import MalformedFile

LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogFormatter(logging.Formatter):
    """Formats a record as one line with control characters escaped, and tracebacks indented.

    So no name or label can steer a terminal or look like a log line.

    :param process: which process it is, where there are several; empty where there is one
    """

    def __init__(self, process: str = "") -> None:
        super().__init__(
            _FORMAT.replace("%(name)s", f"{process}: %(name)s" if process else "%(name)s")
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the line of a record."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Format a traceback."""
        return _indented(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Format a stack."""
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(f"  {printable(line)}" for line in lines.split("\n"))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``, which a progress bar replaces while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(LogFormatter())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def set_up(level: str) -> None:
    """Set up logging of this process.

    :param level: one of :data:`LEVELS`
    """
    logging.basicConfig(handlers=[_Handler()])
    set_level(level)


def set_level(level: str) -> None:
    """Log messages of this severity and above.

    :param level: one of :data:`LEVELS`
    """
    logging.getLogger().setLevel(level.upper())
    # At debug it logs each instruction that it compiles.
    logging.getLogger("numba").setLevel(logging.WARNING)


def set_process(name: str) -> None:
    """Name this process in each line that it logs from now on.

    :param name: such as ``worker 1``
    """
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LogFormatter(name))


class LogLevel:
    """The log level: a word, or a file that holds one and may change.

    :param given: one of :data:`LEVELS`, or the path of a file
    :raises MalformedFile: if it is neither
    """

    def __init__(self, given: str) -> None:
        self._path = None if given in LEVELS else Path(given)
        self.level = given
        self.read()

    def __repr__(self) -> str:
        return f"LogLevel({self.level!r}, path={self._path})"

    @property
    def is_in_file(self) -> bool:
        """Whether the level may change."""
        return self._path is not None

    def read(self) -> str:
        """Read the file again, if there is one, and return the level.

        :raises MalformedFile: if it does not hold a level
        """
        if self._path is not None:
            self.level = _read(self._path)
        return self.level


def _read(path: Path) -> str:
    levels = ", ".join(LEVELS)
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise MalformedFile(
            path, None, f"neither a log level ({levels}) nor a readable file with one: "
            f"{error.strerror}{did_you_mean(str(path), LEVELS)}",
        ) from error  # fmt: skip
    if text.lower() not in LEVELS:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise MalformedFile(path, None, f"holds {shown!r}; give one of {levels}")
    return text.lower()
