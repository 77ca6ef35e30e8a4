"""Limits of the operating system are checked at the start, before anything fails midway."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from negserve_server.process import process_limits
from negserve_server.process.process_limits import _cgroup_bytes, check_process_limits, memory_bytes

MIB = 2**20


def start(shell_limits: str) -> subprocess.CompletedProcess[str]:
    """Start a server under limits of the shell under which it can't run."""
    command = (
        f"{shell_limits}; exec {sys.executable} -m negserve_server.cli serve --listen 127.0.0.1:0"
    )
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("mebibytes", [150, 300, 600, 1000, 1500])
def test_too_little_address_space_is_one_line_and_a_status(mebibytes: int) -> None:
    ended = start(f"ulimit -v {mebibytes * 1024}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"Error: the address space is limited to {mebibytes} MiB, ")
    assert "ulimit -v unlimited" in line


def test_too_few_threads_are_one_line_and_a_status() -> None:
    # A limit of the user does not hold for root: Python itself is told that there are no more.
    program = (
        "import _thread, threading\n"
        "real, left = threading._start_new_thread, [5]\n"
        "def few(*arguments, **options):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0:\n"
        '        raise RuntimeError("can\'t start new thread")\n'
        "    return real(*arguments, **options)\n"
        "threading._start_new_thread = few\n"
        "import negserve_server.cli\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: only 5 more threads can be started, ")
    assert "ulimit -u" in line


_WITHOUT_ROOM = """
from negserve_server import cli
from negserve_server.serving import server

def load(*_):
    raise MemoryError("Unable to allocate 90.0 GiB for an array")

server.load_datasets = load
cli.main(["serve", "--listen", "127.0.0.1:0"])
"""


def test_a_graph_that_does_not_fit_is_one_line_and_a_status() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ROOM], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: not enough memory: Unable to allocate 90.0 GiB for an array; give the "
        "process more, or load smaller graphs\n"
    )


def test_the_check_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    check_process_limits()
    assert threading.active_count() == before


def test_the_check_is_about_the_limits_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_limits.resource, "getrlimit", lambda _: (2**30, 2**30))
    with pytest.raises(OSError, match="the address space is limited to 1024 MiB"):
        check_process_limits()
    assert memory_bytes() <= 2**30
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(process_limits.resource, "getrlimit", lambda _: unlimited)
    check_process_limits()
    monkeypatch.setattr(process_limits, "_start_threads", lambda number: number - 1)
    with pytest.raises(OSError, match="more threads can be started"):
        check_process_limits()


def write(root: Path, limits: dict[str, str]) -> None:
    for name, limit in limits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(limit + "\n")


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/", {"memory.max": "1073741824"}, 2**30),
        ("0::/", {"memory.max": "max"}, float("inf")),
        (
            "0::/a/b",
            {"a/b/memory.max": "max", "a/memory.max": "5000", "c/memory.max": "1"},
            5000,
        ),
        ("4:cpu:/x\n3:memory:/a/b\n0::/x", {"memory/a/b/memory.limit_in_bytes": "7000"}, 7000),
        ("3:memory:/not/seen", {"memory/memory.limit_in_bytes": "9000"}, 9000),
        ("0::/../..", {"memory.max": "600"}, 600),
    ],
)
def test_the_limit_of_a_container_is_found(
    membership: str, limits: dict[str, str], expected: float, tmp_path: Path
) -> None:
    write(tmp_path / "cgroup", limits)
    (tmp_path / "self").write_text(membership + "\n")
    assert _cgroup_bytes(tmp_path / "cgroup", tmp_path / "self") == expected


def test_without_control_groups_there_is_no_such_limit(tmp_path: Path) -> None:
    assert _cgroup_bytes(tmp_path / "none", tmp_path / "neither") == float("inf")
    assert 2**26 < memory_bytes() < 2**50
