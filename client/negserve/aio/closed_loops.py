"""What gRPC has to say to an event loop that is closed already."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

_GRPC = "grpc._cython.cygrpc"
_heard_out: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def hear_out(loop: asyncio.AbstractEventLoop) -> None:
    """Let gRPC end what a loop began, when the loop is closed before.

    One thread polls for all loops of a process. That a cancelled call is over it may learn only
    when the call's loop is closed, and it tells that loop while another one runs: the error that
    this is would be logged there, and what the call holds would never be freed. Nobody waits for
    such a call any more, so its end is taken note of at once.
    """
    if loop in _heard_out:
        return
    _heard_out.add(loop)
    tell = loop.call_soon_threadsafe

    def call_soon_threadsafe(
        callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle | None:
        try:
            return tell(callback, *arguments, context=context)
        except RuntimeError:
            if not loop.is_closed() or getattr(callback, "__module__", "") != _GRPC:
                raise
        with suppress(RuntimeError):  # a task that was never cancelled waits in the closed loop
            callback(*arguments)
        return None

    loop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[method-assign, assignment]
