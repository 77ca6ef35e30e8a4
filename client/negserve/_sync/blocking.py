"""Runs coroutines to their end in the thread that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from negserve._sync.interrupts import held

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run(function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a coroutine function whose every await blocks the thread, and so never suspends.

    Needs no event loop, and may be called where one runs. What signal handlers raise meanwhile
    is raised once the coroutine has ended, see :mod:`negserve._sync.interrupts`.

    :raises RuntimeError: if it suspends all the same
    """
    with held():
        coroutine = function(*args, **kwargs)
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: _T = done.value
            return result
        coroutine.close()
    raise RuntimeError("a coroutine suspended where nothing resumes it")
