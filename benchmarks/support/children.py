"""Processes of a benchmark, of this or an older checkout: what they are asked, and their time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: This checkout.
HERE = Path(__file__).parents[2]

#: Ticks per second of the system's processor times.
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Serving:
    """A process that serves.

    :ivar target: its address
    """

    target: str
    pid: int

    def busy(self) -> float:
        """Return the processor time of it and its children, in seconds."""
        return busy_seconds(family(self.pid))


@contextmanager
def started(checkout: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module with client and server of a checkout, until the block ends.

    The module is one of theirs, or of this checkout's benchmarks.
    """
    path = os.pathsep.join(str(checkout / part) for part in ("client", "server"))
    environment = {**os.environ, "PYTHONPATH": path}
    # Without its bytecode an older checkout would not keep what it compiles.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=HERE, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def serving(checkout: Path, *command: str) -> Iterator[Serving]:
    """Run a module that serves, and prints its address as the last word of a line."""
    with started(checkout, *command) as process:
        assert process.stdout is not None
        yield Serving(process.stdout.readline().split()[-1], process.pid)


def told(process: subprocess.Popen[str], **request: Any) -> dict[str, Any]:
    """Send a JSON object as a line, and return that in the line that answers it."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON object in the next line of a process."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    result: dict[str, Any] = json.loads(line)
    return result


def ask(process: subprocess.Popen[str]) -> int:
    """Send an empty line, and return the number in the line that answers it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
        except OSError:  # it has just ended
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(name))
    return found


def busy_seconds(pids: list[int]) -> float:
    """Sum the processor time of some processes.

    By their clocks, since the ticks of ``/proc`` are too coarse for what some batches take.
    """
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)
