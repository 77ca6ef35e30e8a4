"""Values that each process makes for itself."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

#: Held while a value is made.
_lock = threading.RLock()
#: Without callbacks, in which a Ctrl-C would be lost, as in those of ``weakref.WeakSet``: those of
#: the dead go when there are twice as many as lived the last time.
_holders: list[weakref.ref[PerProcess[Any]]] = []
_most_holders = 16
#: Values of this process's parents. They stay in memory: to drop a lock or a call could wait for
#: threads that only the parent has.
_of_parents: list[object] = []


class PerProcess(Generic[_T]):
    """A value that is made on first use, and again on first use in a forked process.

    Thread-safe. Once made, reading it costs as much as reading any attribute. Pickled and copied
    without the value.

    :param make: makes the value; must not wait for another thread
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        _hold(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self._make,)

    @cached_property
    def value(self) -> _T:
        """The value of this process."""
        with _lock:
            if "value" not in self.__dict__:  # else another thread was first
                self.__dict__["value"] = self._make()
            made: _T = self.__dict__["value"]
            return made


def _hold(holder: PerProcess[Any]) -> None:
    global _holders, _most_holders  # noqa: PLW0603
    with _lock:
        if len(_holders) >= _most_holders:
            _holders = [reference for reference in _holders if reference() is not None]
            _most_holders = 16 + 2 * len(_holders)
        _holders.append(weakref.ref(holder))


def _forget() -> None:
    """Let a forked child make its own values."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    living = [holder for reference in _holders if (holder := reference()) is not None]
    _of_parents.extend([holder.__dict__.pop("value", None) for holder in living])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
