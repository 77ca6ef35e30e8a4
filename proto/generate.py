"""Write the stubs of ``proto/`` into ``client/negserve/v1``.

Run as ``python proto/generate.py [--into FOLDER]``; needs the ``dev`` extra. The stubs are
checked in, and a test proves that they are current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).parent
CLIENT = PROTO.parent / "client"
SERVICES = ("negserve/v1/admin.proto", "negserve/v1/sampler.proto")
FILES = ("negserve/v1/errors.proto", *SERVICES)


def generate(into: Path) -> None:
    """Write modules and type stubs below a folder.

    :raises SystemExit: if protoc refuses
    """
    bin_folder = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={PROTO}",
        f"--plugin=protoc-gen-mypy={bin_folder / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_folder / 'protoc-gen-mypy_grpc'}",
        f"--python_out={into}",
        f"--mypy_out={into}",
    ]
    if protoc.main([*arguments, *FILES]) != 0:
        raise SystemExit(1)
    # The plugins would write empty modules for a file without a service.
    services = [f"--grpc_python_out={into}", f"--mypy_grpc_out={into}"]
    if protoc.main([*arguments, *services, *SERVICES]) != 0:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=CLIENT, help="folder to write below")
    generate(parser.parse_args().into)
