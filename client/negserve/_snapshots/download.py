"""The download of a snapshot: written aside, continued where it stood, moved into place."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from negserve._protocol.snapshot_answers import (
    MANIFEST,
    Place,
    SnapshotDescription,
    checksum_error,
)
from negserve._snapshots.local_copy import is_copy, manifest_sha256
from negserve.errors import LocalStorageError

try:
    import fcntl
except ImportError:  # where there is none, processes must not download into one folder at once
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_HASHED_BYTES = 2**20
#: Behind the name of a file that is not complete, and of the folder of such files.
_UNFINISHED = ".partial"


class Download:
    """A folder that becomes a snapshot, and what of it has arrived.

    The files are written to a folder beside the final place, whose name has the checksum of the
    manifest. One process at a time may :meth:`begin`. A process that ends leaves what has
    arrived, which the next one continues, from any server with the same snapshot.

    :param final: where the snapshot goes
    :param description: the snapshot
    :ivar place: where the download stands
    :ivar num_taken: bytes that arrived in this process
    """

    def __init__(self, final: Path, description: SnapshotDescription) -> None:
        self.final = final
        self.description = description
        self.place = Place()
        self.num_taken = 0
        self._folder = final.with_name(f"{final.name}.{description.sha256[:16]}{_UNFINISHED}")
        self._lock = -1
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()

    @property
    def is_complete(self) -> bool:
        """Whether all files have arrived."""
        return self.place.number == len(self.description.files)

    @property
    def num_arrived(self) -> int:
        """Bytes of the files that have arrived, also before this process."""
        files = self.description.files[: self.place.number]
        return sum(file.num_bytes for file in files) + self.place.offset

    def begin(self) -> bool:
        """Find out where the download stands, if no other process is at it.

        :return: False if another process is
        :raises LocalStorageError: if the folder can't be written, or has no room for the rest
        """
        with self._storing():
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._acquire():
                return False
            if is_copy(self.final, self.description):  # another process was faster
                self.place = Place(len(self.description.files))
                return True
            if manifest_sha256(self._folder) != self.description.sha256:
                self._write_manifest()
            self._find_place()
            left = self.description.num_bytes - self.num_arrived
            free = shutil.disk_usage(self._folder).free
        if left > free:
            raise self._failed(f"no space: {left} bytes are left to download, {free} are free")
        if self.num_arrived:
            logger.info("%s: continued at byte %d", self.final, self.num_arrived)
        return True

    def _acquire(self) -> bool:
        """Lock the folder; it stays locked until it is closed, also by the end of the process."""
        try:
            lock = os.open(self._folder, os.O_RDONLY)
        except FileNotFoundError:  # the other process has just moved it into place
            return False
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_mine = os.path.samestat(os.stat(self._folder), os.fstat(lock))
        except (BlockingIOError, FileNotFoundError):
            is_mine = False
        if not is_mine:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _write_manifest(self) -> None:
        path = self._folder / f"{MANIFEST}{_UNFINISHED}"
        with path.open("wb") as file:
            file.write(self.description.manifest)
            _flush(file)
        path.rename(self._folder / MANIFEST)

    def _find_place(self) -> None:
        """Read what has arrived: whole files, which were checked, and a part of the next."""
        for number, file in enumerate(self.description.files):
            path = self._folder / file.name
            if path.is_file() and path.stat().st_size == file.num_bytes:
                continue
            part = self._folder / f"{file.name}{_UNFINISHED}"
            if part.is_file() and part.stat().st_size > file.num_bytes:
                part.unlink()
            self._file = part.open("ab+", buffering=0)
            self._file.seek(0)
            while block := self._file.read(_HASHED_BYTES):
                self._digest.update(block)
            self.place = Place(number, self._file.tell())
            break
        else:
            self.place = Place(len(self.description.files))

    def take(self, data: bytes) -> None:
        """Write bytes that have arrived; the file that is due ends with them, or after them.

        :raises LocalStorageError: if they can't be written
        """
        if data:
            with self._storing():
                # Not buffered, so that a killed process loses nothing.
                file, left = self._opened(), memoryview(data)
                while left:
                    left = left[file.write(left) :]
            self._digest.update(data)
            self.num_taken += len(data)
            self.place = Place(self.place.number, self.place.offset + len(data))
        while not self.is_complete:
            due = self.description.files[self.place.number]
            if self.place.offset < due.num_bytes:
                return
            self._end_file()

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            due = self.description.files[self.place.number]
            self._file = (self._folder / f"{due.name}{_UNFINISHED}").open("wb", buffering=0)
        return self._file

    def _end_file(self) -> None:
        """Check the file that is complete.

        :raises InvalidAnswerError: if it is not what the manifest says; its bytes are dropped
        :raises LocalStorageError: if it can't be written
        """
        due = self.description.files[self.place.number]
        part = self._folder / f"{due.name}{_UNFINISHED}"
        found, self._digest = self._digest.hexdigest(), hashlib.sha256()
        with self._storing():
            file, self._file = self._opened(), None
            with file:
                if found == due.sha256:
                    _flush(file)
            if found == due.sha256:
                part.rename(self._folder / due.name)
            else:
                part.unlink()
        if found != due.sha256:
            self.place = Place(self.place.number)
            raise checksum_error(due, found)
        self.place = Place(self.place.number + 1)

    def finish(self) -> None:
        """Move the snapshot into place, unless it is there already.

        :raises LocalStorageError: if it can't be moved, or something else is there
        """
        with self._storing():
            if is_copy(self.final, self.description):
                shutil.rmtree(self._folder)
                return
            os.fsync(self._lock)
            self._folder.rename(self.final)  # at most an empty folder is there
            parent = os.open(self.final.parent, os.O_RDONLY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def num_bytes_on_disk(self) -> int:
        """Bytes that are there, to see whether another process makes progress."""
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self._folder))
        except OSError:
            return 0

    def close(self) -> None:
        """Let other processes go on."""
        file, self._file = self._file, None
        lock, self._lock = self._lock, -1
        if file is not None:
            file.close()
        if lock >= 0:
            os.close(lock)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failed(error.strerror or str(error), error.errno) from error

    def _failed(self, why: str, number: Any = None) -> LocalStorageError:
        error = LocalStorageError(
            f"the snapshot can't be written to {self.final}: {why}; it has "
            f"{self.description.num_bytes} bytes: free space there, or give another folder. What "
            f"has arrived is kept in {self._folder}, and continued"
        )
        error.errno = number
        return error


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
