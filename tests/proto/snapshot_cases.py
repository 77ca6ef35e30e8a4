"""The calls of ``GetSnapshot``, on a server of a snapshot of the embedded graph."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from negserve.v1 import sampler_pb2 as pb
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.proto.case import Case
from tests.support.graphs import load

#: What stands in the file for the server's folder.
FOLDER = "/snapshots/world"


def write(folder: Path) -> Path:
    """Write the snapshot below a folder, always with the same bytes."""
    write_snapshot(load("world").parts, folder / "world", made={})
    return folder / "world"


def cases() -> list[Case]:
    """Make the cases."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = (write(Path(folder)) / "manifest.json").read_bytes()
    sha256 = hashlib.sha256(manifest).hexdigest()
    *_, (array, last) = json.loads(manifest)["arrays"].items()
    size = last["num_bytes"]

    def asking(**fields: Any) -> list[Any]:
        fingerprint = load("world").fingerprint
        given = {"dataset": "world", "expected_fingerprint": fingerprint, **fields}
        return [pb.GetSnapshotRequest(**given)]

    def going_on(**fields: Any) -> list[Any]:
        return asking(**{"manifest_sha256": sha256, "array": array, **fields})

    # One answer, since each has the manifest, of some 10 KB.
    return [
        Case("the last bytes", "it goes on where it was cut", going_on(offset=size - 24)),
        Case("unknown array", "the manifest has no such name", going_on(array="../evil")),
        Case("offset too large", "behind the end of the file", going_on(offset=size + 1)),
        Case("unknown dataset", "it is not served", [pb.GetSnapshotRequest(dataset="moon")]),
        Case("wrong fingerprint", "another graph", asking(expected_fingerprint="0" * 64)),
        Case("no message of protobuf", "refused", [b"\xff\xff\xff\xff"]),
    ]
