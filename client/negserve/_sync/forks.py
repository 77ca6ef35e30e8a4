"""gRPC is at rest while a process forks.

gRPC's threads are missing in a forked child, and its channels, new ones too, may wait for them for
ever: always with ``GRPC_ENABLE_FORK_SUPPORT=0``, now and then with 1. So may they wait for a lock
that another thread of the parent had at that moment. Where gRPC is at rest, a fork does no harm. So
a fork closes all channels first, in a few milliseconds, waits until no thread is in gRPC any more
(:class:`using`), and lets none in until it is over. Each of the two processes then opens channels
of its own when it needs them: calls under way in other threads end as if the server was lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import grpc

from negserve._sync.interrupts import put_off
from negserve._transport import credentials

logger = logging.getLogger(__name__)

_Stub = TypeVar("_Stub")

#: gRPC needs some 10 ms to end its threads, more where processors are busy; where another library
#: keeps them, nothing is gained by waiting.
_REST_SECONDS = 2.0
_LOOK_SECONDS = 0.002
#: A thread has its name only when it runs, so that one look may miss one that was just begun.
_CALM_LOOKS = 5
_THREADS = Path("/proc/self/task")
_GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim", "grpc_shutdown", "lifeguard"})

#: What Python calls a thread by the function that it runs.
_PYTHON_THREAD = " (_run)"

_channels: weakref.WeakSet[grpc.Channel] = weakref.WeakSet()
# Held during a fork, so that no thread begins anything with gRPC meanwhile. Its holder may take it
# again: the garbage collector may run at any time, and close what nobody holds.
_lock = threading.RLock()
_users: set[using] = set()
_signals = put_off()  # during a fork


def open_channel(
    target: str,
    options: Sequence[tuple[str, str | int]],
    stub_of: Callable[[grpc.Channel], _Stub],
) -> tuple[grpc.Channel, _Stub]:
    """Open a channel that the next fork of the process closes; see :func:`is_open`.

    :param stub_of: makes the channel's stub, at once: of a closed one, that ends the process
    """
    with _lock:
        channel: grpc.Channel = credentials.open_channel(grpc, target, options)
        stub = stub_of(channel)
        _channels.add(channel)
        _register()
        return channel, stub


class using:  # noqa: N801
    """While a thread is in gRPC: no fork goes ahead, or the thread waits for the one under way.

    To be left soon after the channel is closed, and not to be entered twice.
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
    signals = put_off()  # what is raised in here, Python forgets
    signals.__enter__()
    _lock.acquire()
    _signals = signals
    channels = list(_channels)
    _channels.clear()
    for channel in channels:
        channel.close()
    # Also without any: one that was let go ends later.
    _wait_for_rest(_REST_SECONDS if channels else _REST_SECONDS / 20)


def _wait_for_rest(seconds: float) -> None:
    until = time.monotonic() + seconds
    num_calm = 0
    while num_calm < _CALM_LOOKS and time.monotonic() < until:
        is_calm = not (_users or _GRPC_THREADS & _thread_names() or _is_calling())
        num_calm = num_calm + 1 if is_calm else 0
        time.sleep(_LOOK_SECONDS)
    if num_calm < _CALM_LOOKS and seconds == _REST_SECONDS:
        logger.warning(
            "gRPC is not at rest %g seconds after its channels were closed; the process that is "
            "forked now may wait for ever when it connects",
            seconds,
        )


def _is_calling() -> bool:
    """Tell whether a thread that grpc's Python has for a channel or a call is there."""
    return any(thread.name.endswith(_PYTHON_THREAD) for thread in threading.enumerate())


def _thread_names() -> set[str]:
    if not _THREADS.is_dir():
        return set(_GRPC_THREADS)  # another system: nobody knows
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
    _users.clear()  # threads that are not here


@cache
def _register() -> None:
    # Once there is a channel: handlers that come last run first, and those of gRPC, which the first
    # channel brings, halt the threads that it takes to close one.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_close_all, after_in_parent=_release, after_in_child=_renew_lock)
