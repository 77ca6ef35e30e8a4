"""The worker processes of a running server, as the system shows them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.server_process import ServerProcess


def wait_for(happens: Callable[[], bool], what: str) -> None:
    """Wait for something, for a minute at most."""
    until = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.02)


def worker_pids(server: ServerProcess) -> list[int]:
    """Return the numbers of a server's workers that run, in the order of their start."""
    return sorted(
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if _parent(pid) == server.process.pid
        and b"grpc_log" not in _read(Path(f"/proc/{pid}/cmdline"))
    )


def connections(server: ServerProcess) -> dict[int, int]:
    """Count the connections of each worker."""
    port = int(server.target.rpartition(":")[2])
    sockets = set()
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    for line in "".join(tables).splitlines():
        fields = line.split()
        if fields[0] == "sl":  # the heading
            continue
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "01":
            sockets.add(f"socket:[{fields[9]}]")
    return {pid: len(sockets & set(_open_files(pid))) for pid in worker_pids(server)}


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for somebody to ask for its status."""
    return _state(pid) in {"", "Z"}


def private_bytes(pid: int) -> int:
    """Return the resident memory that a process shares with no other, in bytes."""
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).decode().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def thread_names(pid: int) -> set[str]:
    """Return the names of a process's threads."""
    return {_read(path / "comm").decode().strip() for path in Path(f"/proc/{pid}/task").iterdir()}


def _open_files(pid: int) -> list[str]:
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(path))
        except FileNotFoundError:
            continue
    return found


def _parent(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return int(fields[1]) if fields and fields[0] != b"Z" else 0


def _state(pid: int) -> str:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return fields[0].decode() if fields else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
