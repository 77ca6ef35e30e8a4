"""No channel is open while a process forks.

gRPC's threads are missing in a forked child, and its channels, new ones too, may wait for them for
ever: always with ``GRPC_ENABLE_FORK_SUPPORT=0``, now and then with 1. Where gRPC is at rest, a fork
does no harm. So a fork closes all channels first, in a few milliseconds, and each of the two
processes opens its own when it needs one: calls under way in other threads end as if the server was
lost.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import grpc

from negserve import credentials

#: gRPC needs some 10 ms to end its threads; where another library keeps them, nothing is gained by
#: waiting.
_REST_SECONDS = 0.5
_LOOK_SECONDS = 0.002
_THREADS = Path("/proc/self/task")
_GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim", "lifeguard"})

#: What Python calls a thread by the function that it runs.
_PYTHON_THREAD = " (_run)"

_channels: weakref.WeakSet[grpc.Channel] = weakref.WeakSet()
# Held during a fork, so that no thread opens a channel meanwhile.
_lock = threading.Lock()


def open_channel(target: str, options: Sequence[tuple[str, str | int]]) -> grpc.Channel:
    """Open a channel that the next fork of the process closes; see :func:`is_open`."""
    with _lock:
        channel: grpc.Channel = credentials.open_channel(grpc, target, options)
        _channels.add(channel)
        _register()
        return channel


def is_open(channel: grpc.Channel) -> bool:
    """Tell whether no fork has closed a channel."""
    return channel in _channels


def _close_all() -> None:
    _lock.acquire()
    channels = list(_channels)
    _channels.clear()
    for channel in channels:
        channel.close()
    # Also without any: one that was let go ends later.
    _wait_for_rest(_REST_SECONDS if channels else _REST_SECONDS / 5)


def _wait_for_rest(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if _THREADS.is_dir() and not _GRPC_THREADS & _thread_names() and not _is_calling():
            return
        time.sleep(_LOOK_SECONDS)


def _is_calling() -> bool:
    """Tell whether a thread that grpc's Python has for a channel or a call is there."""
    return any(thread.name.endswith(_PYTHON_THREAD) for thread in threading.enumerate())


def _thread_names() -> set[str]:
    names = set()
    for thread in _THREADS.iterdir():
        try:
            names.add((thread / "comm").read_text().strip())
        except OSError:
            continue  # it ended meanwhile
    return names


def _release() -> None:
    _lock.release()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


@cache
def _register() -> None:
    # Once there is a channel: handlers that come last run first, and those of gRPC, which the first
    # channel brings, halt the threads that it takes to close one.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_close_all, after_in_parent=_release, after_in_child=_renew_lock)
