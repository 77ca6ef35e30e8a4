"""Programs that run on one or two ranks, as users start them, and the results of their cases."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.support.graphs import REPOSITORY
from tests.support.server_process import ServerProcess

_SECONDS = 240


class Cases:
    """The results of a program's cases on this rank, for a test to read.

    ``python PROGRAM TARGET FOLDER [CASE ...]``: these cases only, if there are any
    """

    def __init__(self) -> None:
        self.target, self.folder = sys.argv[1], Path(sys.argv[2])
        self._cases: list[Callable[[], Any]] = []

    def add(self, function: Callable[[], Any]) -> None:
        """Add a case, named as its function."""
        if len(sys.argv) == 3 or function.__name__ in sys.argv[3:]:
            self._cases.append(function)

    def write(self, rank: int) -> None:
        """Run the cases and write their results; a refusal of any kind is a result, too."""
        results: dict[str, Any] = {}
        for case in self._cases:
            try:
                results[case.__name__] = case()
            except Exception as error:
                results[case.__name__] = f"{type(error).__name__}: {error}"
        torch.save(results, self.folder / f"{rank}.results")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_program(
    name: str,
    server: ServerProcess,
    folder: Path,
    *launcher: str,
    num_ranks: int,
    cases: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Run a program of ``tests/frameworks/programs`` and return each rank's results.

    :param launcher: arguments of Python before the program; none for one process
    """
    path = REPOSITORY / "tests" / "frameworks" / "programs" / f"{name}.py"
    before = os.environ.get("PYTHONPATH")
    result = subprocess.run(
        [sys.executable, *launcher, str(path), server.target, str(folder), *cases],
        capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=folder,
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            **(env or {}),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *([before] if before else [])]),
        },
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [torch.load(folder / f"{rank}.results", weights_only=True) for rank in range(num_ranks)]


def torchrun(num_ranks: int = 2) -> list[str]:
    """Return the arguments of Python that start a program on several ranks."""
    return [
        *("-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
    ]
