"""A folder that is written aside, and moved into place when it is complete."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


class UnfinishedFolder:
    """A new folder ``FINAL.tmp-...`` beside its final place; a context.

    Its writer locks it. What a killed writer has left is locked by nobody, and is removed by the
    next one. :meth:`finish` moves it into place; a block that ends without leaves nothing.

    :param final: where it goes; nothing may be there but an empty folder
    :raises FileExistsError: if something is
    :raises OSError: if it can't be written
    """

    def __init__(self, final: Path) -> None:
        self._final = final
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise FileExistsError(f"{final} exists already; remove it, or choose another place")
        final.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{final.name}.tmp-"
        with _locked(final.parent):  # a new folder must not be taken for a leftover
            for left in final.parent.glob(f"{_escaped(prefix)}*"):
                _remove_leftover(left)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        # As the operator's umask says: the server may be another user than the builder.
        self.path.chmod(0o777 & ~_umask())

    def __enter__(self) -> UnfinishedFolder:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not finished."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            self._unlock()

    def finish(self) -> None:
        """Move the folder into place, and flush its name to the disk.

        :raises FileExistsError: if something came to be there meanwhile
        :raises OSError: if it can't be moved
        """
        os.fsync(self._lock)
        try:
            self.path.rename(self._final)
        except OSError as error:
            if self._final.is_dir() and any(self._final.iterdir()):
                raise FileExistsError(f"{self._final} exists already") from error
            raise
        flush_folder(self._final.parent)
        self._unlock()

    def _unlock(self) -> None:
        os.close(self._lock)
        self._lock = -1


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _remove_leftover(path: Path) -> None:
    """Remove a folder unless its writer is still at work."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(folder)


def _escaped(prefix: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in prefix)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
