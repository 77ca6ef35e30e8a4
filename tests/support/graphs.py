"""The graphs of the tests."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from negserve_server.graph import TriplesFactory

REPOSITORY = Path(__file__).parents[2]

#: Folder of the benchmark graphs; where it is missing, tests that need one are skipped.
DATA = Path(os.environ.get("NEGSERVE_DATA", REPOSITORY.parent / "shared" / "data"))

#: The embedded graph, and benchmarks of every size.
ALL_GRAPHS = ("world", "umls", "codex-s", "fb15k-237")

#: Those of them that are there: contract tests run on each.
GRAPHS = tuple(name for name in ALL_GRAPHS if name == "world" or (DATA / name).is_dir())


def has_type_constraints(name: str) -> bool:
    """Tell, without loading the graph, whether typed samplers have a meaning on it."""
    return name == "world" or any((DATA / name).glob("type_constraints.*"))


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


@cache
def triples_of(graph: TriplesFactory, split: str = "training") -> NDArray[np.int64]:
    """Give the triples of a split, which the graph makes anew each time; read-only."""
    return graph.splits[split]
