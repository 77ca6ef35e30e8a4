"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from negserve import Client
from tests.support import cpp_example, node
from tests.support.graphs import DATA, GRAPHS
from tests.support.server_process import ServerProcess, server_process


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
