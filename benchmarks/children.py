"""Processes that a benchmark asks for a number, line by line."""

from __future__ import annotations

import subprocess


def ask(process: subprocess.Popen[str]) -> int:
    """Send an empty line, and return the number in the line that answers it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())
