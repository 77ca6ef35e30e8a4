"""Memory of this process in RAM, as the system counts it."""

from __future__ import annotations

import os
from pathlib import Path

_PROCESS = Path("/proc/self")


def resident_bytes(*, is_shared: bool) -> int:
    """Read the memory in RAM; it may take some milliseconds for a process of gigabytes.

    :param is_shared: whether what several processes share counts in each of them by its part, so
        that their sum is right
    :return: 0 if the system does not say
    """
    try:
        if not is_shared:
            pages = int((_PROCESS / "statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        lines = (_PROCESS / "smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError):
        return 0
