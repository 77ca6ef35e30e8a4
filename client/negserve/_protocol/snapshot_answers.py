"""Snapshots as they travel: the manifest, checked, and the pieces of the files in order."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from negserve._protocol.messages import check_equal, check_member, check_range, invalid
from negserve.types.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb

#: Name of the manifest's file, and the ending of the arrays'.
MANIFEST, ENDING = "manifest.json", ".npy"

_FORMAT = "negserve snapshot"
_NAME = re.compile(r"[a-z][a-z_+.]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_MANIFEST_BYTES = 2**20
_MOST_ARRAYS = 10_000
_MOST_FILE_BYTES = 2**50
_MOST_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a snapshot.

    :ivar array: name of the array that it holds
    :ivar num_bytes: its size
    :ivar sha256: of its bytes, 64 hexadecimal digits
    """

    array: str
    num_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.array}{ENDING}"


@dataclass(frozen=True, slots=True)
class SnapshotDescription:
    """What a snapshot consists of.

    :ivar manifest: the bytes of the manifest's file
    :ivar sha256: of those, 64 hexadecimal digits
    :ivar files: of the arrays, in the order in which they travel
    :ivar folder: where it is on the server's machine
    """

    manifest: bytes
    sha256: str
    files: tuple[SnapshotFile, ...]
    folder: str

    @property
    def num_bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a download stands.

    :ivar number: of the file; that of all files if none is left
    :ivar offset: bytes of it that have arrived
    """

    number: int = 0
    offset: int = 0


def snapshot_request(
    dataset: Dataset, known: SnapshotDescription | None, place: Place
) -> pb.GetSnapshotRequest:
    """Encode a request for what is left of a snapshot.

    :param known: the snapshot; None to ask for the manifest alone
    :param place: where the download stands; some file is left
    """
    request = pb.GetSnapshotRequest(dataset=dataset.name, expected_fingerprint=dataset.fingerprint)
    if known is not None:
        request.manifest_sha256 = known.sha256
        request.array = known.files[place.number].array
        request.offset = place.offset
    return request


def read_description(dataset: Dataset, message: pb.GetSnapshotResponse) -> SnapshotDescription:
    """Check and decode the first message of an answer.

    :raises InvalidAnswerError: naming the field
    """
    check_member("message", message, "manifest")
    manifest = message.manifest.json
    check_range("manifest.json, bytes", len(manifest), 1, _MOST_MANIFEST_BYTES)
    try:
        document = json.loads(manifest)
        # Newer versions of the format are for what opens the snapshot to judge.
        if document["format"] != _FORMAT:
            raise ValueError(document["format"])
        fingerprint = document["fingerprint"]
        files = tuple(_file(name, fields) for name, fields in document["arrays"].items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise invalid("manifest.json", repr(error), "the manifest of a snapshot") from None
    check_equal("manifest.json, fingerprint", fingerprint, dataset.fingerprint)
    check_range("manifest.json, arrays", len(files), 1, _MOST_ARRAYS)
    return SnapshotDescription(
        manifest, hashlib.sha256(manifest).hexdigest(), files, message.manifest.folder
    )


def _file(name: str, fields: Any) -> SnapshotFile:
    size, sha256 = fields["num_bytes"], fields["sha256"]
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name of an array")
    if type(size) is not int or not 0 <= size <= _MOST_FILE_BYTES:
        raise ValueError(f"{size!r} is no size")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no checksum")
    return SnapshotFile(name, size, sha256)


def read_piece(
    description: SnapshotDescription, place: Place, message: pb.GetSnapshotResponse
) -> bytes:
    """Check and decode a further message: the next bytes of the file that is due.

    :param place: where the download stands
    :raises InvalidAnswerError: naming the field
    """
    check_member("message", message, "piece")
    piece = message.piece
    if place.number == len(description.files):
        raise invalid("piece", f"of {piece.array!r}", "nothing: all files are complete")
    file = description.files[place.number]
    check_equal("piece.array", piece.array, file.array)
    check_equal("piece.offset", piece.offset, place.offset)
    most = min(_MOST_PIECE_BYTES, file.num_bytes - place.offset)
    check_range("piece.data, bytes", len(piece.data), 1, most)
    return piece.data


def checksum_error(file: SnapshotFile, found: str) -> Exception:
    """Make the error for a file whose bytes are not those of the manifest."""
    return invalid(f"{file.name}, SHA-256 of what arrived", found, file.sha256)
