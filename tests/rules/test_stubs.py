"""The checked-in stubs are those of the proto."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.graphs import REPOSITORY


def test_stubs_are_current(tmp_path: Path):
    subprocess.run(
        [sys.executable, REPOSITORY / "proto" / "generate.py", "--into", tmp_path],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}
    stubs = REPOSITORY / "client" / "negserve" / "v1"
    checked_in = {
        path.relative_to(REPOSITORY / "client"): path.read_text() for path in stubs.glob("*.py*")
    }
    assert checked_in == fresh, "run `make stubs`"
