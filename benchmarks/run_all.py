"""Run the benchmarks, then write tables, sentences and charts: ``make bench``.

Each benchmark runs in a separate process, so that memory left by one does not slow the next.
``--quick`` leaves out the graph of 20 M triples, which needs 12 GiB of memory.
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
        ("layers", []),
        ("load", []),
        ("small_batches", []),
        ("training", []),
        ("exchange", []),
        ("answers", []),
        ("expansion", []),
        ("evaluation", ["--quick"]),
        ("workers", []),
        ("sizing", ["--write"]),
        ("fleet", []),
        ("scale", None),  # of both graphs
    ):
        if is_quick and options is None:
            continue
        given = options if is_quick and options else ["--write"] if name == "sizing" else []
        command = [sys.executable, "-m", f"benchmarks.{name}", *given]
        subprocess.run(command, check=True)
    for name in ("tables", "charts"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--write"], check=True)
