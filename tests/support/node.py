"""The TypeScript example, and its npm packages."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.graphs import REPOSITORY

FOLDER = REPOSITORY / "examples" / "node"
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
