"""A snapshot in a folder of this machine, and whether it is the one that a server has."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from negserve._protocol.snapshot_answers import MANIFEST, SnapshotDescription

_MOST_MANIFEST_BYTES = 2**20


def default_cache_dir() -> Path:
    """Give the folder of downloaded snapshots: that of the user's caches."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return base / "negserve" / "snapshots"


def manifest_sha256(folder: Path) -> str | None:
    """Hash the manifest of a folder; None if there is none that can be read."""
    try:
        # Not blocking: a named pipe would wait for its writer.
        descriptor = os.open(folder / MANIFEST, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_MANIFEST_BYTES:
                return None
            return hashlib.sha256(file.read(_MOST_MANIFEST_BYTES)).hexdigest()
    except (OSError, ValueError):  # of a path with a NUL
        return None


def is_copy(folder: Path, description: SnapshotDescription) -> bool:
    """Tell whether a folder has a snapshot: its manifest, and all files in their sizes.

    What the files hold is not read.
    """
    if manifest_sha256(folder) != description.sha256:
        return False
    try:
        return all(
            stat.S_ISREG((status := (folder / file.name).stat()).st_mode)
            and status.st_size == file.num_bytes
            for file in description.files
        )
    except OSError:
        return False


def shared_folder(description: SnapshotDescription) -> Path | None:
    """Give the server's own folder, if it is on this machine and can be read here.

    In another container the same path may have something else, or nothing.
    """
    folder = Path(description.folder)
    if not description.folder or not folder.is_absolute() or not is_copy(folder, description):
        return None
    readable = all(os.access(folder / file.name, os.R_OK) for file in description.files)
    return folder if readable else None
