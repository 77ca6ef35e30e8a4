"""gRPC is idle while a process forks, and calls are released where no signal handler runs.

A forked child lacks gRPC's threads, and its channels, new ones included, may wait for them for
ever: always with ``GRPC_ENABLE_FORK_SUPPORT=0``, sometimes with 1. They may also wait for a lock
that another thread of the parent held. A fork is safe only while gRPC is idle. So a fork first
closes all channels, in a few milliseconds, waits until no thread is in gRPC (:class:`grpc_in_use`),
and lets none in until it is over. Then parent and child open channels of their own when they need
them: calls under way in other threads of the parent end as if the server was lost.

A call of gRPC that is garbage cancels itself, and takes locks for it, wherever its last reference
is dropped. A signal handler that raises there would leave the locks taken. So a call is held by a
:class:`Kept`; when that is garbage, a thread drops the call.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from negserve._calls.per_process import PerProcess
from negserve._sync.interrupts import put_off
from negserve._transport import credentials

logger = logging.getLogger(__name__)

_Stub = TypeVar("_Stub")
_T = TypeVar("_T")

#: gRPC needs some 10 ms to end its threads, more on busy processors. The limit is for processes
#: where another library keeps them running.
_IDLE_SECONDS = 2.0
_LOOK_SECONDS = 0.002
#: A thread gets its name when it runs, so one look may miss one that was just started.
_IDLE_LOOKS = 5
_THREADS = Path("/proc/self/task")
#: Names of gRPC's own threads, and of those that its Python code starts, by their function. They
#: are private to gRPC: tests/client/sync/test_forks.py fails for a version with others.
GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim", "grpc_shutdown", "lifeguard"})
GRPC_PYTHON_THREAD = " (_run)"


class Living(Generic[_T]):
    """A set of objects that keeps none of them alive. Thread-safe.

    ``weakref.WeakSet`` calls a function in Python when an object dies, and Python ignores an
    exception there: a Ctrl-C at that moment would be lost. Here a function in C notes it.
    """

    def __init__(self) -> None:
        self._references: dict[weakref.ref[_T], None] = {}
        self._dead: queue.SimpleQueue[weakref.ref[_T]] = queue.SimpleQueue()

    def add(self, item: _T) -> None:
        """Add an object."""
        self._forget_the_dead()
        self._references[weakref.ref(item, self._dead.put)] = None

    def clear(self) -> None:
        """Remove all objects."""
        self._references.clear()

    def __contains__(self, item: _T) -> bool:
        return weakref.ref(item) in self._references

    def __iter__(self) -> Iterator[_T]:
        """Iterate over the objects that live now."""
        for reference in list(self._references):
            item = reference()
            if item is not None:
                yield item

    def __len__(self) -> int:
        """Count the objects that live now."""
        self._forget_the_dead()
        return len(self._references)

    def _forget_the_dead(self) -> None:
        try:
            while True:
                self._references.pop(self._dead.get_nowait(), None)
        except queue.Empty:
            return


_channels: Living[grpc.Channel] = Living()
# Held during a fork, so that no thread enters gRPC meanwhile. Reentrant, because the garbage
# collector may run at any time and close a channel.
_lock = threading.RLock()
_users: set[grpc_in_use] = set()
_signals = put_off()  # during a fork


def open_channel(
    target: str,
    options: Sequence[tuple[str, str | int]],
    stub_of: Callable[[grpc.Channel], _Stub],
) -> tuple[grpc.Channel, _Stub]:
    """Open a channel that the next fork of the process closes; see :func:`is_open`.

    :param stub_of: makes the channel's stub; gRPC ends a process that makes one of a closed channel
    """
    with _lock:
        channel: grpc.Channel = credentials.open_channel(grpc, target, options)
        stub = stub_of(channel)
        _channels.add(channel)
        _register()
        return channel, stub


class grpc_in_use:  # noqa: N801
    """Block in which a thread uses gRPC: a fork waits for its end, and it waits for a fork.

    It must end soon after its channel is closed. May not be nested.
    """

    def __enter__(self) -> None:
        with _lock:
            _users.add(self)

    def __exit__(self, *raised: object) -> None:
        _users.discard(self)


def is_open(channel: grpc.Channel) -> bool:
    """Tell whether no fork has closed a channel."""
    return channel in _channels


def _close_all() -> None:
    global _signals  # noqa: PLW0603
    signals = put_off()  # Python ignores exceptions in here
    signals.__enter__()
    _lock.acquire()
    _signals = signals
    channels = list(_channels)
    _channels.clear()
    for channel in channels:
        channel.close()
    # Also without channels: gRPC may still be closing one that is garbage.
    _wait_until_idle(_IDLE_SECONDS if channels else _IDLE_SECONDS / 20)


def _wait_until_idle(seconds: float) -> None:
    until = time.monotonic() + seconds
    num_idle = 0
    while num_idle < _IDLE_LOOKS and time.monotonic() < until:
        is_idle = not (_users or GRPC_THREADS & _thread_names() or _is_calling())
        num_idle = num_idle + 1 if is_idle else 0
        time.sleep(_LOOK_SECONDS)
    if num_idle < _IDLE_LOOKS and seconds == _IDLE_SECONDS:
        logger.warning(
            "gRPC is still busy %g seconds after its channels were closed; the process that is "
            "forked now may wait for ever when it connects",
            seconds,
        )


def _is_calling() -> bool:
    """Tell whether gRPC's Python code has a thread for a channel or a call."""
    return any(thread.name.endswith(GRPC_PYTHON_THREAD) for thread in threading.enumerate())


def _thread_names() -> set[str]:
    if not _THREADS.is_dir():
        return set(GRPC_THREADS)  # unknown on this system
    names = set()
    for thread in _THREADS.iterdir():
        try:
            names.add((thread / "comm").read_text().strip())
        except OSError:
            continue  # it ended meanwhile
    return names


def _release() -> None:
    signals = _signals
    _lock.release()
    signals.__exit__()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _users.clear()  # the parent's threads


class Kept:
    """Keeps a call until this object is garbage; then a thread drops the call.

    Made where exceptions of signal handlers are deferred, see :mod:`negserve._sync.interrupts`.
    """

    __slots__ = ("__weakref__", "_keeper", "_reference")

    def __init__(self, kept: Any) -> None:
        self._keeper = _keeper.value
        # The callback of a weak reference has to be C: no signal handler runs in there.
        self._reference = weakref.ref(self, self._keeper.garbage.put)
        self._keeper.kept[self._reference] = kept

    def __call__(self) -> Any:
        """Return the call."""
        return self._keeper.kept[self._reference]


class _Keeper:
    """The calls of a process, and the thread that drops them."""

    def __init__(self) -> None:
        self.kept: dict[weakref.ref[Kept], Any] = {}
        self.garbage: queue.SimpleQueue[weakref.ref[Kept]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="negserve-keeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            reference = self.garbage.get()
            with grpc_in_use():
                del self.kept[reference]


_keeper = PerProcess(_Keeper)


@cache
def _register() -> None:
    # After the first channel is open: handlers that were registered last run first, and gRPC, which
    # registers its own with the first channel, stops the threads that close channels.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_close_all, after_in_parent=_release, after_in_child=_renew_lock)
