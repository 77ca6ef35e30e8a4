"""Cached kernels are used again, but never with outdated helpers inside."""

from __future__ import annotations

import inspect
import operator
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numba as nb
import pytest
from numba.core import caching, event

import negserve_server
from tests.support.graphs import REPOSITORY

_ASK = """
import numpy as np
from negserve_server.index import FilterIndex, pair_lookups
index = FilterIndex(np.array([[0, 0, 1]]), num_entities=3, num_relations=1)
print(index.contains(np.array([[0, 0, 1], [0, 0, 2]])).tolist())
print(sum(pair_lookups.contains_values.stats.cache_hits.values()))
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


ADAPT = "adapt server/negserve_server/jit/compiled.py, then the bound of numba in pyproject.toml"


@pytest.mark.parametrize(
    "name",
    ["_cache", "_cache.cache_path", "_cache._cache_file", "_cache._cache_file._source_stamp"],
)
def test_numba_has_the_private_attributes_that_kept_kernels_depend_on(name: str):
    @nb.njit(cache=True)  # not one of ours, which have what we assign
    def kept(number: int) -> int:
        return number

    try:
        operator.attrgetter(name)(kept)
    except AttributeError:
        pytest.fail(f"numba {nb.__version__}: a dispatcher has no {name}; {ADAPT}")


def test_numba_compares_the_private_stamp_when_it_loads_a_kernel():
    source = inspect.getsource(caching.IndexDataCacheFile._load_index)
    assert "_source_stamp" in source, f"numba {nb.__version__} compares another stamp; {ADAPT}"


def test_numba_tells_which_kernel_it_compiles():
    @nb.njit
    def fresh(number: int) -> int:
        return number

    with event.install_recorder("numba:compile") as recorder:
        fresh(1)
    begun = [each.data for _, each in recorder.buffer if each.is_start]
    assert any(data.get("dispatcher") is fresh for data in begun), (
        f"numba {nb.__version__}: a compile event names no dispatcher; {ADAPT}"
    )


def test_numba_has_what_the_sealed_cache_of_the_image_replaces():
    for owner, name in (
        (caching.UserProvidedCacheLocator, "ensure_cache_path"),
        (caching.Cache, "save_overload"),
    ):
        assert hasattr(owner, name), (
            f"numba {nb.__version__}: {owner.__name__} has no {name}; "
            "adapt deploy/sealed_cache.py, then the bound of numba in pyproject.toml"
        )


def test_numba_has_an_upper_bound_since_its_privates_are_used():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (required,) = (
        each for each in project["optional-dependencies"]["server"] if each.startswith("numba")
    )
    assert "<" in required
