"""``negserve top`` at a real server, with and without a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve import Client
from tests.support import preloaded
from tests.support.repositories import ADMIN, CALLER, write_tokens
from tests.support.server_process import ServerProcess, server_process

POSITIVES = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "admin-token"
    path.write_text(ADMIN)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(tmp_path) as running:
        yield running


def serving(folder: Path, target: str = "127.0.0.1:0") -> Any:
    return server_process("--token-file", str(write_tokens(folder, anybody=True)), listen=(target,))


def top(*arguments: str, **environment: str) -> Any:
    return preloaded.run(
        ["-m", "negserve.cli", "top", *arguments], timeout=60, env={**os.environ, **environment}
    )


def test_scripts_get_one_object_with_rates(server: ServerProcess, token: Path):
    with Client(server.target, timeout=20) as client:
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=5)
        sampler.sample(POSITIVES, 0)
        done = top(
            server.target, "--token-file", str(token), "--once", "--json", "--interval", "0.2"
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    (dataset,) = found["datasets"]
    assert (dataset["name"], dataset["num_streams"], dataset["num_negatives"]) == ("world", 1, 10)
    assert dataset["negatives_per_second"] == 0
    assert dataset["num_messages"] == 1
    assert 0 < dataset["make_seconds"] < found["uptime_seconds"]
    assert dataset["make_ms_per_message"] is dataset["queue_ms_per_message"] is None, "none since"
    assert dataset["rpcs"]["Sample"] == {"num_calls": 1, "num_requests": 2}
    (peer,) = found["peers"]
    assert (peer["address"], peer["datasets"]) == ("127.0.0.1", {"world": 1})


def test_without_a_terminal_it_looks_once(server: ServerProcess, token: Path):
    done = top(server.target, "--interval", "0.2", NEGSERVE_ADMIN_TOKEN_FILE=str(token))
    assert done.returncode == 0
    assert done.stdout.startswith("negserve ")
    assert [line for line in done.stdout.splitlines() if line.startswith("world ")]
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {"NEGSERVE_TOKEN": CALLER}, "caller lacks the scope admin, it has publish, sample"),
        ((), {}, "anybody lacks the scope admin"),
        (("--token-file", "none"), {}, "none can't be read"),
        (("--json",), {}, "add --once"),
        (("--interval", "0"), {}, "0.0 is not in the range"),
    ],
)
def test_errors_are_one_clear_line(
    server: ServerProcess, arguments: tuple[str, ...], environment: dict[str, str], said: str
):
    done = top(server.target, *arguments, **environment)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_without_administrators_says_so():
    with server_process() as server:
        done = top(server.target)
    assert done.returncode == 1
    assert "it was started without --token-file, or is older than this command" in done.stderr


class Terminal:
    """The program at a terminal, and what it has written."""

    def __init__(self, stack: ExitStack, *arguments: str) -> None:
        self._descriptor, own = pty.openpty()
        stack.callback(os.close, self._descriptor)
        self.process = preloaded.PreloadedProcess(
            ["-m", "negserve.cli", "top", *arguments],
            stdin=own,
            stdout=own,
            stderr=own,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"},
        )
        os.close(own)
        stack.callback(self.process.wait, 30)
        stack.callback(self.process.kill)

    def wait_for(self, text: str) -> str:
        """Read until a text has been written; return all that was read now."""
        read = ""
        until = time.monotonic() + 60
        while text not in read:
            assert time.monotonic() < until, f"no {text!r} in {read[-2000:]!r}"
            if select.select([self._descriptor], [], [], 1)[0]:
                read += os.read(self._descriptor, 65536).decode(errors="replace")
        return read


def test_it_goes_on_while_the_server_is_started_again(tmp_path: Path, token: Path):
    with ExitStack() as stack:
        with serving(tmp_path) as server:
            terminal = Terminal(
                stack, server.target, "--token-file", str(token), "--interval", "0.2",
                "--timeout", "5",
            )  # fmt: skip
            terminal.wait_for("world")
            with Client(server.target, timeout=20) as client:
                sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=5)
                sampler.sample(POSITIVES, 0)
                terminal.wait_for("127.0.0.1 ")
            server.kill()
            said = terminal.wait_for("failed to connect")
            assert "world" in said + terminal.wait_for("world"), "the last numbers stay"
        with serving(tmp_path, server.target) as again, Client(again.target) as client:
            sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=7)
            sampler.sample(POSITIVES, 0)
            terminal.wait_for(" 14 ")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(30) == 130
