"""Runs coroutines to their end in the thread that asks for it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine whose every await blocks the thread, and so never suspends.

    Needs no event loop, and may be called where one runs.

    :raises RuntimeError: if it suspends all the same
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine suspended where nothing resumes it")
