"""Files whose changes take effect while the server runs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

#: Shortest interval between looks at the files.
_LOOK_SECONDS = 1.0


class WatchedFiles:
    """Tells whether files have changed: another file, time or size.

    :param paths: the files; one that can't be read counts as a file of its own kind
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._looked_at = 0.0
        self.note()

    def note(self) -> None:
        """Take the files as they are now as seen. Call it before they are read.

        So a change meanwhile is noticed next time.
        """
        self._seen = self._states()
        self._looked_at = time.monotonic()

    def have_changed(self) -> bool:
        """Tell whether they changed since the last time; looks once a second at most."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return False
        before = self._seen
        self.note()
        return self._seen != before

    def _states(self) -> list[tuple[int, ...]]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file; empty if it can't be read."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
