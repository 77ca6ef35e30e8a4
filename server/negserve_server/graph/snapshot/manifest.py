"""The manifest of a snapshot: what it holds, how it was made, and the checksums."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from negserve_server.errors import MalformedSnapshot
from negserve_server.graph.snapshot.plain_file import open_plain

FILE = "manifest.json"
#: Version of the format that this release writes, and the only one that it reads.
VERSION = 1

_FORMAT = "negserve snapshot"
_START = re.compile(rb'\s*(\{\s*"format"\s*:\s*"negserve snapshot"|$)')
_ARRAY = re.compile(r"[a-z][a-z_+.]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SnapshotPlace:
    """Where a snapshot was opened, and what proves that it is still the same.

    :ivar path: the folder, absolute, without symbolic links
    :ivar manifest_sha256: of the file of the manifest, 64 hexadecimal digits
    """

    path: Path
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file ``NAME.npy``.

    :ivar dtype: as numpy writes it, such as ``<u4``
    :ivar shape: of the array
    :ivar num_bytes: of the file
    :ivar sha256: of the file, 64 hexadecimal digits
    """

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredSplit:
    """A split: its number of triples, of triples left out, and its fingerprint."""

    num_triples: int
    num_unseen: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredTypes:
    """Type constraints: the number of pairs left out, and the fingerprint."""

    num_unseen: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """A direction of a filter index: its splits, the slot of its values, and its numbers."""

    splits: tuple[str, ...]
    slot: str
    scalars: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a snapshot holds.

    :ivar fingerprint: of the graph
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar splits: by name
    :ivar type_constraints: None for a graph without
    :ivar indexes: the directions of filter indexes
    :ivar made: version of negserve, time, sources and options; for people
    :ivar arrays: by name
    """

    fingerprint: str
    num_entities: int
    num_relations: int
    splits: Mapping[str, StoredSplit]
    type_constraints: StoredTypes | None
    indexes: tuple[StoredIndex, ...]
    made: Mapping[str, Any]
    arrays: Mapping[str, StoredArray]

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.num_bytes for array in self.arrays.values())

    def encode(self) -> bytes:
        """Write it as JSON, with a checksum of its own."""
        document = {"format": _FORMAT, "version": VERSION, **asdict(self)}
        return (json.dumps({**document, "sha256": _checksum(document)}, indent=1) + "\n").encode()


def is_snapshot(path: Path) -> bool:
    """Tell whether a folder is a snapshot, complete or not."""
    try:
        with open_plain(path / FILE) as file:
            return _START.match(file.read(200)) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of a snapshot.

    :param path: the folder
    :raises MalformedSnapshot: if there is none, or it is incomplete, altered or of another format
    """
    return parse_manifest(path, read_manifest_file(path))


def read_manifest_file(path: Path) -> bytes:
    """Read the file of a manifest.

    :param path: the folder
    :raises MalformedSnapshot: if it can't be read
    """
    try:
        with open_plain(path / FILE) as file:
            return file.read()
    except FileNotFoundError as error:
        raise MalformedSnapshot(path, None, "is missing: this is no snapshot") from error
    except OSError as error:
        raise MalformedSnapshot(
            path, None, f"can't be read ({error}); build the snapshot again"
        ) from error


def parse_manifest(path: Path, data: bytes) -> Manifest:
    """Check and decode the bytes of a manifest.

    :param path: the folder, which errors name
    :raises MalformedSnapshot: if it is incomplete, altered or of another format
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise MalformedSnapshot(
            path, None, f"can't be read ({error}); build the snapshot again"
        ) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise MalformedSnapshot(path, None, "is of something else: this is no snapshot")
    version = document.get("version")
    if version != VERSION:
        is_newer = isinstance(version, int) and version > VERSION
        raise MalformedSnapshot(
            path,
            None,
            f"has format version {version}, this release reads {VERSION}; "
            f"{'upgrade negserve, or ' if is_newer else ''}build the snapshot again",
        )
    stated = document.pop("sha256", None)
    if stated != _checksum(document):
        raise MalformedSnapshot(
            path, None, "was altered, as its checksum does not fit; build the snapshot again"
        )
    try:
        return _decode(document)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise MalformedSnapshot(
            path, None, f"lacks a field or has a wrong one ({error!r}); build the snapshot again"
        ) from error


def _decode(document: Mapping[str, Any]) -> Manifest:
    types = document["type_constraints"]
    arrays = {}
    for name, fields in document["arrays"].items():
        array = StoredArray(
            str(fields["dtype"]),
            tuple(map(_count, fields["shape"])),
            _count(fields["num_bytes"]),
            fields["sha256"],
        )
        if not _ARRAY.fullmatch(name) or not _SHA256.fullmatch(array.sha256):
            raise ValueError(name)
        arrays[name] = array
    return Manifest(
        fingerprint=str(document["fingerprint"]),
        num_entities=_count(document["num_entities"]),
        num_relations=_count(document["num_relations"]),
        splits={name: StoredSplit(**fields) for name, fields in document["splits"].items()},
        type_constraints=None if types is None else StoredTypes(**types),
        indexes=tuple(
            StoredIndex(tuple(each["splits"]), each["slot"], each["scalars"])
            for each in document["indexes"]
        ),
        made=dict(document["made"]),
        arrays=arrays,
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
