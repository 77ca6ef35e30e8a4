"""The log level: a word, or a file that holds one and may change."""

from __future__ import annotations

from pathlib import Path

from negserve.terminal.nearest import did_you_mean
from negserve_server.errors import MalformedFile

LEVELS = ("debug", "info", "warning", "error")


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
