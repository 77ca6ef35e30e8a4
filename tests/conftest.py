"""Fixtures for all tests."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from negserve import Client
from tests.support import cpp_example, node, preloaded
from tests.support.examples import examples
from tests.support.graphs import DATA, GRAPHS
from tests.support.server_process import ServerProcess, server_process

pytest_plugins = ("tests.support.cpu_seconds",)

# Before torch is imported, also by what tests start: its threads wait for each other in loops,
# which takes more than they compute where several processes share the processors.
os.environ["OMP_NUM_THREADS"] = "1"

# No deadline: the machine may be busy.
settings.register_profile("negserve", deadline=None, max_examples=examples(100))
settings.load_profile("negserve")

# Workers that get a loader pickled start at once, since what they import is there: a spawned one
# takes seconds for that.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["pytest", "negserve.data", "negserve.sampling", "negserve_server.serving.server"]
)

#: Where tests wait long, and start programs; in this order. Workers take whole files, so that
#: what a file starts is started once, and these first, so that none is left alone at the end.
_LONG = (
    "tests/faults/",
    "tests/frameworks/",
    "tests/client/integrations/",
    "tests/test_",
    "tests/contract/",
    "tests/client/",
    "tests/server/sampling/",
    "tests/server/process/",
    "tests/server/graph/",
    "tests/server/test_",
)


def pytest_configure(config: pytest.Config) -> None:
    """While workers import and collect, start what all of them have programs forked from."""
    gc.disable()
    if config.getoption("numprocesses") and not hasattr(config, "workerinput"):
        preloaded.start_for_workers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""

    def order(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(_LONG) if item.nodeid.startswith(name)), len(_LONG))

    items.sort(key=order)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector pass over all that is imported, and over the tests: hardly any is garbage.

    It would go through all of it again and again while it comes.
    """
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Let the collector pass no more over what a file leaves, such as graphs and their oracles."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One real server process with every available graph, shared by all tests."""
    options = ["--dataset", "world"]
    for name in GRAPHS:
        if (DATA / name).is_dir():
            options += ["--dataset", f"{name}={DATA / name}"]
    with server_process(*options) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.target) as connected:
        yield connected


@pytest.fixture(scope="session")
def node_program() -> Path:
    """The command-line program of the client in TypeScript, built once."""
    return node.build()


@pytest.fixture(scope="session")
def cpp_program() -> Path:
    """The command-line program of the C++ client, built once."""
    return cpp_example.build()
