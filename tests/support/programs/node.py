"""The TypeScript example, and its npm packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.graphs import REPOSITORY
from tests.support.turns import one_at_a_time

FOLDER = REPOSITORY / "examples" / "node"
_STAMP = FOLDER / "build" / "test.stamp"
_BUILD_SECONDS = 200
BUF = FOLDER / "node_modules" / ".bin" / "buf"


def require_node_modules() -> None:
    """Skip the test without node and the example's packages; fail where they are required."""
    missing = next((tool for tool in ("node", "npm") if shutil.which(tool) is None), None)
    if missing is not None:
        reason = f"there is no {missing} on the PATH"
    elif not BUF.exists():
        reason = "examples/node has no node_modules: run `npm ci` there"
    else:
        return
    if os.environ.get("NEGSERVE_REQUIRE_NODE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def build() -> Path:
    """Generate the stubs and compile, into folders that git ignores, or skip the test.

    What is as new as its sources is left: the stubs take the longest.

    :returns: the command-line program
    """
    require_node_modules()
    # Each worker of pytest has its own session.
    with one_at_a_time(FOLDER / "build" / "test.lock"):
        if not _is_built():
            done = subprocess.run(
                ["npm", "run", "--silent", "build"],
                cwd=FOLDER, capture_output=True, text=True, timeout=_BUILD_SECONDS,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            _STAMP.touch()
    return FOLDER / "build" / "src" / "main.js"


def _is_built() -> bool:
    sources = [FOLDER / "package-lock.json", FOLDER / "buf.gen.yaml", FOLDER / "tsconfig.json"]
    for folder in (FOLDER / "src", FOLDER / "test", FOLDER / "proto", REPOSITORY / "proto"):
        sources += [folder, *folder.rglob("*")]
    newest = max(path.stat().st_mtime for path in sources if "generated" not in path.parts)
    return _STAMP.exists() and _STAMP.stat().st_mtime > newest
