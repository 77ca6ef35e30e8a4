"""Pack what an author of a client needs into one archive, the same bytes each time.

Run as ``python proto/release.py [--into FOLDER]``: the proto, what it and its refusals refer to of
``google.rpc``, buf's files, and the golden files. Needs the ``dev`` extra.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

PROTO = Path(__file__).parent
_README = """\
# negserve {version}, for authors of clients

- `negserve/v1/*.proto`: the interface. Every comment states meaning, shape, unit and limit.
- `google/rpc/status.proto`, `error_details.proto`: what the trailer `grpc-status-details-bin` of a
  refusal holds. Copyright Google LLC, Apache License 2.0: `google/LICENSE`.
- `testdata/*.json`: golden files, calls with all their bytes.
- `buf.yaml`, `buf.gen.yaml`: for buf. With protoc, from this folder, for Java as an example:

      protoc -I . --java_out=. negserve/v1/*.proto google/rpc/*.proto

  `google/protobuf/*.proto` come with protoc.

`docs/protocol.md` and `docs/clients.md` of the project say the rest, and
`python -m negserve.conformance` of the Python package holds a client against a server.
"""
#: Of each entry: the earliest that the format knows.
_DATE = (1980, 1, 1, 0, 0, 0)


def _google() -> Iterator[tuple[str, bytes]]:
    common = distribution("googleapis-common-protos")
    for name in ("google/rpc/error_details.proto", "google/rpc/status.proto"):
        yield name, Path(str(common.locate_file(name))).read_bytes()
    (license_file,) = [each for each in common.files or () if each.name == "LICENSE"]
    yield "google/LICENSE", license_file.read_binary()


def entries() -> dict[str, bytes]:
    """Return the files of the archive by name."""
    found = {
        "README.md": _README.format(version=version("negserve")).encode(),
        "LICENSE": (PROTO.parent / "LICENSE").read_bytes(),
        **dict(_google()),
    }
    for pattern in ("buf*.yaml", "negserve/v1/*.proto", "testdata/**/*.json"):
        for path in PROTO.glob(pattern):
            found[path.relative_to(PROTO).as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def pack(into: Path) -> Path:
    """Write the archive below a folder, and give its path."""
    into.mkdir(parents=True, exist_ok=True)
    folder = f"negserve-proto-{version('negserve')}"
    path = into / f"{folder}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in entries().items():
            entry = zipfile.ZipInfo(f"{folder}/{name}", _DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=PROTO.parent / "dist", help="a folder")
    print(pack(parser.parse_args().into))
