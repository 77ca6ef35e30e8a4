"""Messages with the bytes of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.checks.text import quoted
from negserve.v1 import sampler_pb2 as pb
from negserve_server.errors import MalformedSnapshot, Refusal
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.manifest import SnapshotPlace
from negserve_server.graph.snapshot.snapshot_files import SnapshotFiles

#: Most bytes of a file in one message.
PIECE_BYTES = 256 * 1024


def snapshot_place(name: str, factory: TriplesFactory, *, is_allowed: bool) -> SnapshotPlace:
    """Give the place of a dataset's snapshot.

    :param is_allowed: whether clients may have it
    :raises Refusal: with ``PULL_NOT_ALLOWED`` or ``NO_SNAPSHOT``
    """
    if not is_allowed:
        raise Refusal(
            f"clients may not have the snapshot of {quoted(name)}; ask the operator to start the "
            f"server with --allow-pull, or let the server compute",
            reason="PULL_NOT_ALLOWED",
            value=name,
        )
    place = factory.parts.place
    if place is None:
        raise _no_snapshot(name)
    return place


def open_files(name: str, place: SnapshotPlace) -> SnapshotFiles:
    """Open the files of a dataset's snapshot.

    :raises Refusal: with ``NO_SNAPSHOT`` or ``SNAPSHOT_UNUSABLE``
    """
    try:
        return SnapshotFiles(place)
    except FileNotFoundError as error:
        # Such as the temporary snapshot that several workers have mapped.
        raise _no_snapshot(name) from error
    except (MalformedSnapshot, OSError) as error:
        raise unusable(name, error) from error


def pieces(request: pb.GetSnapshotRequest, files: SnapshotFiles) -> Iterator[tuple[str, int, int]]:
    """Divide what a client lacks into pieces: name of the array, offset, number of bytes.

    :raises InvalidRequestError: for an array or offset that the snapshot does not have
    """
    names = list(files.arrays)
    begin, offset = request.array or next(iter(names), ""), request.offset
    if begin not in files.arrays:
        raise invalid_configuration(
            "array", begin, "the snapshot has no such array", limit=tuple(names)
        )
    size = files.arrays[begin].num_bytes
    if offset > size:
        raise invalid_configuration(
            "offset", offset, f"the file of {begin} has {size} bytes", limit=size
        )
    return _pieces(names[names.index(begin) :], offset, files)


def _pieces(names: list[str], offset: int, files: SnapshotFiles) -> Iterator[tuple[str, int, int]]:
    for name in names:
        size = files.arrays[name].num_bytes
        while offset < size:
            step = min(PIECE_BYTES, size - offset)
            yield name, offset, step
            offset += step
        offset = 0


def encode_piece(files: SnapshotFiles, piece: tuple[str, int, int]) -> bytes:
    """Read a piece, and make its message.

    :raises MalformedSnapshot: if it can't be read
    """
    name, offset, size = piece
    return pb.GetSnapshotResponse(
        piece=pb.SnapshotPiece(array=name, offset=offset, data=files.read(name, offset, size))
    ).SerializeToString()


def unusable(name: str, error: Exception) -> Refusal:
    """Make the refusal of a snapshot whose files are not those that are served."""
    return Refusal(
        f"the snapshot of {quoted(name)} can't be read: {error}; the operator must restore it, or "
        f"load it again",
        reason="SNAPSHOT_UNUSABLE",
        value=name,
        complaint=str(error),
    )


def _no_snapshot(name: str) -> Refusal:
    expected = (
        "a dataset that is a snapshot, as `negserve-server build` makes it, or a server with "
        "--cache-dir"
    )
    return Refusal(
        f"dataset {quoted(name)} is not served from a snapshot; ask the operator for {expected}; "
        f"or let the server compute",
        reason="NO_SNAPSHOT",
        value=name,
        expected=expected,
    )
