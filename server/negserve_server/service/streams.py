"""All open streams of a server: how many there may be, and who has to go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from negserve_server.errors import InvalidInput
from negserve_server.service.limits import Limits
from negserve_server.service.stream import ServerStream

_SWEEP_SECONDS = 1.0
#: How long connections stay open after the last stream's end. A proxy that has not passed all on
#: yet, since its client reads slowly, drops the rest, the status too, when its server hangs up.
_LINGER_SECONDS = 2.0


class OpenStreams:
    """Keeps account of the open streams."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: set[ServerStream[Any]] = set()
        self._draining = False

    def __len__(self) -> int:
        """Count the open streams."""
        return len(self._open)

    @contextmanager
    def admit(self, stream: ServerStream[Any]) -> Iterator[None]:
        """Hold a place for a stream.

        :raises InvalidInput: if the server drains, or has as many as it takes
        """
        if self._draining:
            raise _draining()
        if len(self._open) >= self._limits.max_streams:
            raise InvalidInput(
                f"{len(self._open)} streams are open, the limit is {self._limits.max_streams}; "
                f"close some, or ask another replica",
                reason="TOO_MANY_STREAMS",
                value=len(self._open),
                limit=self._limits.max_streams,
            )
        self._open.add(stream)
        try:
            yield
        finally:
            self._open.discard(stream)

    async def drain(self, seconds: float) -> None:
        """Take no more streams, end the open ones after the answer they work on, let it arrive.

        :param seconds: after which it returns in any case
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._draining = True
        ending = [stream.end(_draining()) for stream in list(self._open)]
        if ending:
            await asyncio.wait(ending, timeout=seconds)
            await asyncio.sleep(min(_LINGER_SECONDS, max(deadline - loop.time(), 0.0)))

    async def sweep(self) -> None:
        """End, for ever, the streams whose clients are silent for too long."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._limits.idle_timeout))
            for stream in list(self._open):
                limit = min(self._limits.idle_timeout, stream.idle_timeout)
                if stream.idle_seconds > limit:
                    stream.end(
                        InvalidInput(
                            f"no message for {limit:g} seconds; open the stream again when there "
                            f"is something to send",
                            reason="STREAM_IDLE",
                            limit=limit,
                        )
                    )


def _draining() -> InvalidInput:
    return InvalidInput(
        "the server is shutting down; ask another replica, or this one later: the same request "
        "gives the same bytes",
        reason="DRAINING",
    )
