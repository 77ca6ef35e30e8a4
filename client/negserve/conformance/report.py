"""Counts of cases that passed, failed or were left out."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TextIO

PASSED, FAILED, LEFT_OUT = "passed", "failed", "left out"


class Report:
    """A table of counts, and one line for each failed case.

    :param stream: where to write
    """

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._counts: dict[str, Counter[str]] = {}
        self._reasons: Counter[tuple[str, str]] = Counter()

    def passed(self, part: str) -> None:
        """Count a case that passed."""
        self._counts.setdefault(part, Counter())[PASSED] += 1

    def failed(self, part: str, case: str, why: str) -> None:
        """Count a case that failed, and print why."""
        self._counts.setdefault(part, Counter())[FAILED] += 1
        print(f"FAILED {part}, {case}: {why}", file=self._stream)

    def left_out(self, part: str, why: str, count: int = 1) -> None:
        """Count cases that could not be checked."""
        self._counts.setdefault(part, Counter())[LEFT_OUT] += count
        self._reasons[part, why] += count

    @property
    def num_failed(self) -> int:
        """Number of failed cases."""
        return sum(count[FAILED] for count in self._counts.values())

    @property
    def num_passed(self) -> int:
        """Number of passed cases."""
        return sum(count[PASSED] for count in self._counts.values())

    def print_table(self) -> None:
        """Print one line for each part, and the totals."""
        width = max(map(len, [*self._counts, "total"]))
        columns = (PASSED, FAILED, LEFT_OUT)
        print(" " * width, *(f"{name:>9}" for name in columns), file=self._stream)
        total: Counter[str] = Counter()
        for part, counts in self._counts.items():
            total += counts
            numbers = (f"{counts[name]:>9}" for name in columns)
            print(f"{part:<{width}}", *numbers, file=self._stream)
        print(f"{'total':<{width}}", *(f"{total[n]:>9}" for n in columns), file=self._stream)
        for (part, why), count in self._reasons.items():
            print(f"left out: {count} of {part}, {why}", file=self._stream)
