"""Processes of a benchmark: numbers that they are asked for line by line, and their time."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

#: Ticks per second of the system's processor times.
TICK = os.sysconf("SC_CLK_TCK")


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
