"""Lets go of gRPC's calls where no signal handler runs.

A call of gRPC that nobody holds cancels itself, and takes locks for it. That happens wherever the
last reference is dropped, also by the garbage collector. A signal handler that raises there leaves
the locks taken, and Python forgets what it raised. So who needs a call holds a :class:`Kept` of
it; when that is gone, a thread lets go of the call.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from typing import Any

from negserve._sync import forks


class Kept:
    """What holds an object for as long as it is there itself.

    Made where signal handlers don't raise, see :mod:`negserve._sync.interrupts`.
    """

    __slots__ = ("__weakref__", "_keeper", "_reference")

    def __init__(self, kept: Any) -> None:
        self._keeper = _of_process()
        # What is called when this is gone has to be C: no signal handler runs in there.
        self._reference = weakref.ref(self, self._keeper.gone.put)
        self._keeper.kept[self._reference] = kept

    def __call__(self) -> Any:
        """Give the object."""
        return self._keeper.kept[self._reference]


class _Keeper:
    """The objects of a process, and the thread that lets go of them."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.kept: dict[weakref.ref[Kept], Any] = {}
        self.gone: queue.SimpleQueue[weakref.ref[Kept]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="negserve-keeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            reference = self.gone.get()
            with forks.using():
                del self.kept[reference]


_keeper: _Keeper | None = None


def _of_process() -> _Keeper:
    global _keeper  # noqa: PLW0603
    if _keeper is None or _keeper.process != os.getpid():
        # A forked child, without the thread: what its parent holds is not its to let go of.
        _keeper = _Keeper()
    return _keeper
