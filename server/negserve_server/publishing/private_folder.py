"""A folder for the workers of one server, which nobody else may enter."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "negserve-workers-"


class PrivateFolder:
    """A temporary folder, removed by :meth:`close`; what killed servers left is removed before.

    Its processes hold a lock on it: a folder that nobody has locked is left over.

    :ivar path: the folder
    :raises OSError: if it can't be made
    """

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            _remove_leftover(left)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.path.exists():  # else another server took it for left over
                return
            os.close(self._lock)

    @property
    def short_path(self) -> str:
        """The folder by a path that is short enough for unix sockets, in the server's processes."""
        return f"/proc/self/fd/{self._lock}"

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_leftover(path: Path) -> None:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(folder)
