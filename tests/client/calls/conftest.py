"""A server of a module's own, whose log tells what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from negserve import Client
from tests.support.server_process import ServerProcess, server_process


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def serving(log: Path) -> Iterator[ServerProcess]:
    with server_process("--threads", "1", log=log) as server:
        yield server


@pytest.fixture(scope="module")
def world(serving: ServerProcess) -> Iterator[Any]:
    with Client(serving.target) as client:
        yield client.triples_factory("world")
