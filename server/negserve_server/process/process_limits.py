"""Memory and threads that the operating system allows this process."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_CGROUPS = Path("/sys/fs/cgroup")
#: Address space that a server with a small graph reserves: for libraries and compiled code, and for
#: each core the stacks of its threads. On two cores 1,600 MB were too few, 1,750 MB enough. A tenth
#: of it is used.
_ADDRESS_SPACE = 1664 * 2**20
_ADDRESS_SPACE_PER_CORE = 64 * 2**20
#: Threads that a server starts: gRPC's, and for each core those of the engine and of libraries.
_THREADS = 16
_THREADS_PER_CORE = 3
#: Assumed memory of a machine that does not state it.
_MEMORY = 2**32
#: Limits that an operator may have to raise.
_THREAD_LIMITS = "ulimit -u, the pids limit of the container, or TasksMax of the service"


def cores() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or less in a container."""
    found = [float(_MEMORY)]
    if hasattr(os, "sysconf"):
        found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    if resource is not None:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found.append(math.inf if limit == resource.RLIM_INFINITY else limit)
    return int(min(*found, _cgroup_bytes(_CGROUPS, Path("/proc/self/cgroup"))))


def _cgroup_bytes(root: Path, membership: Path) -> float:
    """Return the lowest limit of the process's control groups, of both versions."""
    folders = {root, root / "memory"}
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        folder = top / path.strip("/")
        while folder != top and top in folder.parents:
            folders.add(folder)
            folder = folder.parent
    limits = [math.inf]
    for folder in folders:
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                limits.append(float((folder / name).read_text()))
            except (OSError, ValueError):  # no such limit, or "max"
                continue
    return min(limits)


def check_process_limits() -> None:
    """Refuse to start where libraries would fail later, or end the process.

    :raises OSError: naming the limit, the need, and how to raise the limit
    """
    num_cores = cores()
    if resource is not None:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        needed = _ADDRESS_SPACE + num_cores * _ADDRESS_SPACE_PER_CORE
        if limit != resource.RLIM_INFINITY and limit < needed:
            raise OSError(
                f"the address space is limited to {limit >> 20} MiB, {needed >> 20} MiB are needed "
                f"on {num_cores} cores, and more for large graphs: raise the limit (ulimit -v "
                f"unlimited, LimitAS of the service). To bound the memory that is used, limit "
                f"that of the container, or MemoryMax of the service"
            )
    needed = _THREADS + num_cores * _THREADS_PER_CORE
    started = _start_threads(needed)
    if started < needed:
        raise OSError(
            f"only {started} more threads can be started, {needed} are needed on {num_cores} "
            f"cores: raise {_THREAD_LIMITS}"
        )


def _start_threads(number: int) -> int:
    """Start this many threads at the same time, and return how many could be started."""
    may_end = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(number):
            thread = threading.Thread(target=may_end.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError:  # can't start new thread
        pass
    finally:
        may_end.set()
        for thread in threads:
            thread.join()
    return len(threads)
