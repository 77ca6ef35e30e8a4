"""Warnings, by what is to be looked into, and how they are given.

    NegserveWarning (UserWarning)
    ├── LeakageWarning             negatives avoid what a model is tested on
    ├── SwappedColumnsWarning      triples whose relations look like entities
    └── UnknownPositivesWarning    positives that a server does not know

Python's own filters say what becomes of each: shown once a line, ignored, or raised.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class NegserveWarning(UserWarning):
    """Base of all warnings of this package, and what a server says that has no class here."""


class LeakageWarning(NegserveWarning):
    """Training negatives are filtered by validation or testing triples."""


class SwappedColumnsWarning(NegserveWarning):
    """The columns of triples do not look like head, relation, tail."""


class UnknownPositivesWarning(NegserveWarning):
    """Most positives are no triples of the graph, as happens with ids of another id space."""


def warn(message: str, category: type[NegserveWarning]) -> None:
    """Warn of what a user's program does, at its line, not at one of this package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
