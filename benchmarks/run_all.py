"""Run the benchmarks, then write tables, sentences and charts: ``make bench``.

Each benchmark runs in a separate process, so that memory left by one does not slow the next.
``--quick`` leaves out the graph of 20 M triples, which needs 12 GiB of memory. ``--base DIR`` names
an older checkout for those that compare with one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

#: Benchmarks that also measure an older checkout.
_WITH_BASE = ("remote", "load", "exchange")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without the graph of 20 M triples")
    parser.add_argument("--base", type=Path, help="an older checkout to compare with")
    arguments = parser.parse_args()
    is_quick = arguments.quick
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
        ("metrics", []),
        ("sizing", ["--write"]),
        ("fleet", []),
        ("scale", None),  # of both graphs
    ):
        if is_quick and options is None:
            continue
        given = options if is_quick and options else ["--write"] if name == "sizing" else []
        if name in _WITH_BASE and arguments.base is not None:
            given = [*given, "--base", str(arguments.base)]
        command = [sys.executable, "-m", f"benchmarks.{name}", *given]
        subprocess.run(command, check=True)
    for name in ("tables", "charts"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--write"], check=True)
