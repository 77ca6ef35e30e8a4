"""Arrays in files of numpy's own format, ``.npy``: written with a checksum, mapped, checked."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from negserve_server.errors import MalformedSnapshot
from negserve_server.graph.snapshot.manifest import StoredArray
from negserve_server.graph.snapshot.plain_file import open_plain

ENDING = ".npy"
_BLOCK_BYTES = 2**24


class _Hashed:
    """A file that is hashed as it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> None:
        self.digest.update(data)
        self._file.write(data)


def write_array(
    folder: Path, name: str, array: NDArray[Any], on_progress: Callable[[float], None]
) -> StoredArray:
    """Write an array, and flush it to the disk.

    :param name: of the array
    :param on_progress: called with the part that is written, up to 1
    :raises OSError: if it can't be written
    """
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    header = np.lib.format.header_data_from_array_1_0(array)
    rows = max(_BLOCK_BYTES // max(array[:1].nbytes, 1), 1)
    with (folder / f"{name}{ENDING}").open("xb") as file:
        hashed = _Hashed(file)
        np.lib.format.write_array_header_1_0(hashed, {**header, "fortran_order": False})
        for first in range(0, len(array), rows):
            hashed.write(np.ascontiguousarray(array[first : first + rows]).data.cast("B"))
            on_progress(min(first + rows, len(array)) / len(array))
        file.flush()
        os.fsync(file.fileno())
        num_bytes = file.tell()
    return StoredArray(array.dtype.str, array.shape, num_bytes, hashed.digest.hexdigest())


def map_array(folder: Path, name: str, stored: StoredArray) -> NDArray[Any]:
    """Map an array of a snapshot; nothing of it is read yet but its header.

    :raises MalformedSnapshot: if the file is missing, or has another size, dtype or shape than the
        manifest says
    """
    path = folder / f"{name}{ENDING}"
    try:
        with open_plain(path) as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes != stored.num_bytes:
                raise MalformedSnapshot(
                    folder,
                    name,
                    f"has {num_bytes} bytes, the manifest says {stored.num_bytes}: it is "
                    f"{'truncated' if num_bytes < stored.num_bytes else 'altered'}; build the "
                    f"snapshot again",
                )
            np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if (shape, is_fortran, dtype.str) != (stored.shape, False, stored.dtype):
                raise ValueError(f"it holds {dtype.str} of shape {shape}")
            offset = file.tell()
            if offset + dtype.itemsize * int(np.prod(shape, dtype=object)) != num_bytes:
                raise ValueError("its header does not fit its size")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "can't be read"
        raise MalformedSnapshot(
            folder, name, f"{reason} ({error.strerror}); build the snapshot again"
        ) from error
    except ValueError as error:
        if isinstance(error, MalformedSnapshot):
            raise
        raise MalformedSnapshot(
            folder, name, f"is not what the manifest says: {error}; build the snapshot again"
        ) from error
    return np.ndarray(shape, dtype, buffer=mapped, offset=offset)


def check_array(folder: Path, name: str, stored: StoredArray) -> None:
    """Read an array's file and compare its checksum.

    :raises MalformedSnapshot: if it differs
    """
    try:
        with open_plain(folder / f"{name}{ENDING}") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MalformedSnapshot(folder, name, f"can't be read ({error.strerror})") from error
    if found != stored.sha256:
        raise MalformedSnapshot(
            folder,
            name,
            f"was altered: its SHA-256 is {found}, the manifest says {stored.sha256}; build the "
            f"snapshot again",
        )
