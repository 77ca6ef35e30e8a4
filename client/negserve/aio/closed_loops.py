"""Events of gRPC for an event loop that is closed already."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

#: Module of gRPC's callbacks. It is private to gRPC: tests/client/aio/test_closed_loops.py fails
#: for a version in which they are elsewhere.
GRPC_CALLBACKS = "grpc._cython.cygrpc"
_handled: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def handle_late_events(loop: asyncio.AbstractEventLoop) -> None:
    """Run gRPC's callbacks at once when the loop is closed before them.

    One thread polls for all loops of a process. It may learn of the end of a cancelled call only
    after the call's loop was closed, and schedule its callback there while another loop runs. The
    error would be logged in that loop, and the memory of the call would never be freed. Nobody
    waits for such a call any more, so its callback runs at once.
    """
    if loop in _handled:
        return
    _handled.add(loop)
    schedule = loop.call_soon_threadsafe

    def call_soon_threadsafe(
        callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle | None:
        try:
            return schedule(callback, *arguments, context=context)
        except RuntimeError:
            if not loop.is_closed() or getattr(callback, "__module__", "") != GRPC_CALLBACKS:
                raise
        with suppress(RuntimeError):  # a task that was never cancelled waits in the closed loop
            callback(*arguments)
        return None

    loop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[method-assign, assignment]
