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
from tests.support import preloaded
from tests.support.graphs import DATA, GRAPHS
from tests.support.programs import cpp_example, node
from tests.support.programs.examples import examples
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

#: Where tests mostly wait, and where they compute for long, in this order. Workers take whole
#: files, so that what a file starts is started once.
_WAITING = ("tests/frameworks/", "tests/faults/", "tests/server/process/", "tests/examples/",
            "tests/client/integrations/")  # fmt: skip
_COMPUTING = ("tests/server/sampling/", "tests/contract/", "tests/client/", "tests/server/graph/")
#: The part of the whole in which the waiting files begin: none is left alone at the end.
_WAITING_SHARE = 0.8


def pytest_configure(config: pytest.Config) -> None:
    """While workers import and collect, start what all of them have programs forked from."""
    gc.disable()
    if config.getoption("numprocesses") and not hasattr(config, "workerinput"):
        preloaded.start_for_workers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that wait between files that compute, so that the processors are always busy."""
    files = dict.fromkeys(item.nodeid.split("::")[0] for item in items)
    waiting = _in_order([file for file in files if file.startswith(_WAITING)], _WAITING)
    computing = _in_order([file for file in files if not file.startswith(_WAITING)], _COMPUTING)
    places = {file: _WAITING_SHARE * at / len(waiting) for at, file in enumerate(waiting)}
    places |= {file: at / len(computing) for at, file in enumerate(computing)}
    items.sort(key=lambda item: places[item.nodeid.split("::")[0]])


def _in_order(files: list[str], folders: tuple[str, ...]) -> list[str]:
    def order(file: str) -> int:
        return next((i for i, name in enumerate(folders) if file.startswith(name)), len(folders))

    return sorted(files, key=order)


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
