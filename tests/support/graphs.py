"""The graphs of the tests."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from negserve_server.graph import TriplesFactory

REPOSITORY = Path(__file__).parents[2]

#: Folder of the benchmark graphs; where it is missing, tests that need one are skipped.
DATA = Path(os.environ.get("NEGSERVE_DATA", REPOSITORY.parent / "shared" / "data"))

#: Graphs of the contract tests: the embedded one, and the benchmarks.
GRAPHS = ("world", "umls", "codex-s", "fb15k-237")


def graph_path(name: str) -> Path:
    """Return a benchmark graph's folder, or skip the test."""
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"{name} is not at {DATA}; set NEGSERVE_DATA to a folder that has it")
    return path


@cache
def load(name: str) -> TriplesFactory:
    """Load a graph once per test run, or skip the test."""
    return TriplesFactory.world() if name == "world" else TriplesFactory.from_path(graph_path(name))
