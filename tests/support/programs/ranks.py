"""Programs that run on one or two ranks, as users start them, and the results of their cases."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support import preloaded
from tests.support.graphs import REPOSITORY
from tests.support.preloaded import DEVNULL, PreloadedProcess
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


class Ranks:
    """The ranks of a training, as torchrun starts them, but forked: see :mod:`preloaded`.

    :param command: arguments of Python, the same for all
    :param env: more variables
    :param imports: modules that the program imports
    """

    def __init__(
        self,
        num_ranks: int,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "GROUP_RANK": "0",
            "GROUP_WORLD_SIZE": "1",
            "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": "0",
        }
        for kind in ("", "LOCAL_", "ROLE_"):
            common[f"{kind}WORLD_SIZE"] = str(num_ranks)
        self._outputs = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        self._ranks = [
            PreloadedProcess(
                command,
                stdin=DEVNULL,
                stdout=self._outputs[0],
                stderr=self._outputs[1],
                env={
                    **os.environ, **common, **(env or {}),
                    **{f"{kind}RANK": str(rank) for kind in ("", "LOCAL_", "ROLE_")},
                },
                cwd=cwd,
                imports=imports,
            )
            for rank in range(num_ranks)
        ]  # fmt: skip

    def poll(self) -> int | None:
        """Return the exit status of the first rank that failed, or 0 once all have ended."""
        statuses = [rank.poll() for rank in self._ranks]
        failed = next((status for status in statuses if status), 0)
        return None if None in statuses and not failed else failed

    def kill(self) -> None:
        """Kill all ranks (SIGKILL), and wait until they have ended."""
        self._end()
        for file in self._outputs:
            file.close()

    def _end(self) -> None:
        for rank in self._ranks:
            rank.kill()
        for rank in self._ranks:
            rank.wait(30)

    def finish(self, seconds: float) -> tuple[int | None, str, str]:
        """Wait for the end of all; once one has failed, kill the others, as torchrun does.

        :returns: exit status, None if it took longer; output and errors of all
        """
        until = time.monotonic() + seconds
        while (status := self.poll()) is None and time.monotonic() < until:
            time.sleep(0.02)
        self._end()
        said = []
        for file in self._outputs:
            with file:
                file.seek(0)
                said.append(file.read())
        return status, *said


def run_program(
    name: str,
    server: ServerProcess,
    folder: Path,
    *,
    num_ranks: int,
    starts_ranks: bool = False,
    cases: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Run a program of ``tests/frameworks/programs`` and return each rank's results.

    :param starts_ranks: the program starts its ranks by itself
    :param imports: modules that the program imports
    """
    path = REPOSITORY / "tests" / "frameworks" / "programs" / f"{name}.py"
    before = os.environ.get("PYTHONPATH")
    command = [str(path), server.target, str(folder), *cases]
    environment = {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        **(env or {}),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *([before] if before else [])]),
    }
    if num_ranks == 1 or starts_ranks:
        ended = preloaded.run(
            command, timeout=_SECONDS, cwd=folder, imports=imports,
            env={**os.environ, **environment},
        )  # fmt: skip
        status, errors = ended.returncode, ended.stderr
    else:
        ranks = Ranks(num_ranks, command, env=environment, cwd=folder, imports=imports)
        status, _, errors = ranks.finish(_SECONDS)
    assert status == 0, errors
    return [torch.load(folder / f"{rank}.results", weights_only=True) for rank in range(num_ranks)]


def torchrun(num_ranks: int = 2) -> list[str]:
    """Return the arguments of Python that start a program on several ranks."""
    return [
        *("-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
    ]
