"""The files of a snapshot as bytes, for clients that copy it."""

from __future__ import annotations

import hashlib
import os

from negserve_server.errors import MalformedSnapshot
from negserve_server.graph.snapshot.array_files import ENDING
from negserve_server.graph.snapshot.manifest import FILE, SnapshotPlace, parse_manifest


class SnapshotFiles:
    """The files of an opened snapshot, read one after the other.

    They are looked up in the folder that is opened here, also if another one comes to be at its
    path meanwhile. Holds two file descriptors at most, which are closed with the last reference: a
    thread may still read when the call that it reads for has ended.

    :param place: where the snapshot was opened
    :ivar manifest: the file of the manifest
    :ivar arrays: of the manifest, in its order
    :raises FileNotFoundError: if the folder is gone
    :raises MalformedSnapshot: if what is there now is another snapshot
    """

    def __init__(self, place: SnapshotPlace) -> None:
        self._place = place
        self._file = -1
        self._file_name = ""
        self._folder = -1
        self._folder = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with open(self._open(FILE), "rb") as file:
            self.manifest = file.read()
        if hashlib.sha256(self.manifest).hexdigest() != place.manifest_sha256:
            raise MalformedSnapshot(
                place.path, None, "is another one than that which is served; load it again"
            )
        self.arrays = parse_manifest(place.path, self.manifest).arrays

    def __del__(self) -> None:
        for descriptor in (self._folder, self._file):
            if descriptor >= 0:
                os.close(descriptor)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read a part of an array's file.

        :param name: of the array
        :param size: at least 1; there are so many bytes from there on
        :raises MalformedSnapshot: if the file is gone, or shorter than the manifest says
        """
        try:
            if name != self._file_name:
                if self._file >= 0:
                    os.close(self._file)
                    self._file = -1
                self._file = self._open(f"{name}{ENDING}")
                self._file_name = name
            data = os.pread(self._file, size, offset)
        except OSError as error:
            raise MalformedSnapshot(
                self._place.path, name, f"can't be read any more ({error.strerror})"
            ) from error
        if len(data) != size:
            raise MalformedSnapshot(
                self._place.path, name, f"ends at byte {offset + len(data)}: it was truncated"
            )
        return data

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._folder)
