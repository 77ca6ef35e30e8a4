"""Repositories of snapshots, and an administrator of the server that serves them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support import preloaded
from tests.support.server_process import ServerProcess

#: Tokens of an administrator, and of a caller.
ADMIN, CALLER = "admin-0123456789abcdef", "caller-0123456789abcdef"


def write_tokens(folder: Path, *, anybody: bool = False) -> Path:
    """Write the server's file of these two tokens, and return its path.

    :param anybody: whether one needs none to draw and to publish
    """
    path = folder / "tokens.toml"
    path.write_text(
        f'[[token]]\nname = "admin"\ntoken = "{ADMIN}"\nscopes = ["admin"]\n'
        f'[[token]]\nname = "caller"\ntoken = "{CALLER}"\nscopes = ["sample", "publish"]\n'
        + ('[anybody]\nscopes = ["sample", "publish"]\n' if anybody else "")
    )
    return path


def graph(seed: int, num_triples: int = 3000) -> TriplesFactory:
    """Return a random graph, another one for each seed, with equal id spaces."""
    random = np.random.default_rng(seed)
    triples = np.stack([random.integers(0, size, num_triples) for size in (500, 7, 500)], axis=1)
    return TriplesFactory({"training": triples}, num_entities=500, num_relations=7)


def wait_for(happens: Callable[[], bool]) -> None:
    """Wait until something happens, for a minute."""
    until = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.02)


@dataclass
class RepositoryOnDisk:
    """A folder of snapshots.

    :ivar path: the folder
    """

    path: Path
    _num_built: int = field(default=0)

    def put(self, name: str, factory: TriplesFactory) -> None:
        """Make a graph the snapshot of a name; one that is there is moved away."""
        self._num_built += 1
        new = self.path.parent / f"built-{self._num_built}"
        write_snapshot(factory.parts, new, made={})
        if (self.path / name).exists():
            (self.path / name).rename(self.path.parent / f"old-{self._num_built}")
        new.rename(self.path / name)

    def remove(self, name: str) -> None:
        """Remove a snapshot."""
        shutil.rmtree(self.path / name)

    def truncate(self, name: str) -> None:
        """Cut an array off, in a new file: a mapped one must not be changed."""
        path = self.path / name / "training.heads.npy"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-7])


@dataclass
class Administrator:
    """Runs ``negserve-server admin`` against a server.

    :ivar token_file: a file with the administrator's token
    :ivar env: more variables of the commands
    """

    server: ServerProcess
    token_file: Path
    log: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit status, output and errors."""
        options = ("--target", self.server.target, "--token-file", str(self.token_file))
        done = preloaded.run(
            ["-m", "negserve_server.cli", "admin", arguments[0], *options, *arguments[1:]],
            timeout=60,
            env={**os.environ, **self.env},
        )
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that succeeds; return what it prints as JSON."""
        status, output, errors = self.run(*arguments, "--json")
        assert status == 0, errors
        found: list[dict[str, Any]] = json.loads(output)
        return found

    def hang_up(self) -> str:
        """Send SIGHUP; return what the server logs until it has reloaded the repository."""
        before = len(self.log.read_text())
        self.server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "SIGHUP: datasets of the repository" in self.log.read_text()[before:])
        return self.log.read_text()[before:]
