"""Clients and states of the last release, with a server of this one.

`deploy/test_containers.sh` plays a rolling upgrade with the last release's server, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from negserve import Client, InvalidAnswerError
from negserve.v1 import sampler_pb2 as pb
from tests.support.children.lying_server import change, lying_server
from tests.support.server_process import ServerProcess, server_process

HERE = Path(__file__).parent
#: As it was released.
WHEEL = HERE / "negserve-0.1.0-py3-none-any.whl"
#: Printed by ``drawing.py`` of the last release, with its own server.
DRAWN = json.loads((HERE / "drawn_by_0.1.0.json").read_text())


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last release, as a folder for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("released")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def publishing() -> Iterator[ServerProcess]:
    with server_process("--allow-publish") as running:
        yield running


def draw(target: str, states: Path, name: str, python_path: Path | None) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(python_path or "")}
    done = subprocess.run(
        [sys.executable, str(HERE / "drawing.py"), target, str(states), name],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_client_of_the_last_release_draws_what_it_drew(
    publishing: ServerProcess, released: Path, tmp_path: Path
):
    states = tmp_path / "states"
    assert draw(publishing.target, states, "old", released) == DRAWN
    # A trainer that is upgraded within an epoch goes on with the same batches.
    assert draw(publishing.target, states, "new", None) == DRAWN


def test_a_server_of_the_last_release_is_named_as_too_old(publishing: ServerProcess):
    def leave_out(answer: pb.GetDatasetResponse) -> None:
        answer.limits.ClearField("max_unanswered_messages")
        answer.limits.ClearField("max_unanswered_bytes")

    with lying_server(publishing.target) as old:
        old.lies["GetDataset"] = change(leave_out)
        with (
            Client(old.target, timeout=5) as client,
            pytest.raises(InvalidAnswerError, match="upgrade servers before clients"),
        ):
            client.triples_factory("world")
        # In the midst of an upgrade the other replica is there.
        with Client([old.target, publishing.target], timeout=5) as client:
            assert client.triples_factory("world").num_triples == 5408
