"""Warnings, by what is to be looked into, and how they are given.

    NegserveWarning (UserWarning)
    ├── LeakageWarning             negatives avoid what a model is tested on
    ├── SwappedColumnsWarning      triples whose relations look like entities
    └── UnknownPositivesWarning    positives that a server does not know

Python's own filters say what becomes of each: shown once, ignored, or raised.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_ONCE = frozenset({"default", "module", "once"})
_MOST_SHOWN = 1000
_shown: set[tuple[type[Warning], str]] = set()


class NegserveWarning(UserWarning):
    """Base of all warnings of this package, and what a server says that has no class here."""


class LeakageWarning(NegserveWarning):
    """Training negatives are filtered by validation or testing triples."""


class SwappedColumnsWarning(NegserveWarning):
    """The columns of triples do not look like head, relation, tail."""


class UnknownPositivesWarning(NegserveWarning):
    """Most positives are no triples of the graph, as happens with ids of another id space."""


def warn(text: str, category: type[NegserveWarning]) -> None:
    """Warn of what a user's program does, at its line, not at one of this package.

    What Python's filters would show once a line is shown once a process: Python itself forgets
    what it has shown whenever somebody changes a filter, as libraries do now and then.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__", "<unknown>"))
    if _action(text, category, module, frame.f_lineno) in _ONCE:
        if (category, text) in _shown:
            return
        if len(_shown) == _MOST_SHOWN:
            _shown.clear()
        _shown.add((category, text))
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno, module)


def _action(text: str, category: type[Warning], module: str, line: int) -> str:
    """Find what Python's filters say of a warning."""
    for action, message, of, in_module, in_line in warnings.filters:
        if (
            issubclass(category, of)
            and in_line in {0, line}
            and _matches(message, text)
            and _matches(in_module, module)
        ):
            return action
    return "default"


def _matches(pattern: re.Pattern[str] | str | None, text: str) -> bool:
    if pattern is None or isinstance(pattern, str):  # of Python's own filters
        return pattern in {None, text}
    return pattern.match(text) is not None
