"""Run every benchmark: ``make bench``.

Each runs in a process of its own, so that what one leaves in memory does not slow the next.
``--quick`` leaves the graph of 20 M triples out, which needs 12 GiB of memory.
"""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    is_quick = "--quick" in sys.argv[1:]
    for name, options in (
        ("engine", ["--graph", "fb15k-237"]),
        ("curves", ["--quick"]),
        ("remote", []),
        ("small_batches", []),
        ("answers", []),
    ):
        command = [sys.executable, "-m", f"benchmarks.{name}", *(options if is_quick else [])]
        subprocess.run(command, check=True)
