"""Cached kernels are used again, but never with outdated helpers inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import negserve_server
from tests.support.graphs import REPOSITORY

_ASK = """
import numpy as np
from negserve_server.index import FilterIndex, kernels
index = FilterIndex(np.array([[0, 0, 1]]), num_entities=3, num_relations=1)
print(index.contains(np.array([[0, 0, 1], [0, 0, 2]])).tolist())
print(sum(kernels.contains_values.stats.cache_hits.values()))
"""


def _ask(root: Path) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", _ASK],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), str(REPOSITORY / "client")]),
            "NUMBA_CACHE_DIR": str(root / "cache"),
        },
        cwd=root,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return result.stdout.split("\n")[:2]


def test_a_kept_kernel_is_compiled_again_when_an_inlined_helper_changes(tmp_path: Path):
    package = tmp_path / "negserve_server"
    shutil.copytree(Path(negserve_server.__file__).parent, package)
    assert _ask(tmp_path) == ["[True, False]", "0"]
    assert _ask(tmp_path) == ["[True, False]", "1"]
    # A helper of another file than the kernel's: no value may be held any more.
    helper = package / "index" / "known_lists.py"
    changed = helper.read_text().replace("return is_at(", "return False and is_at(")
    assert changed != helper.read_text()
    helper.write_text(changed)
    assert _ask(tmp_path) == ["[False, False]", "0"]
