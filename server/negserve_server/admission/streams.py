"""All open calls of a server: who has a place, and who has to go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from typing import Any

from negserve_server.admission.places import Places
from negserve_server.admission.stream import ServerStream
from negserve_server.config.limits import MAX_REQUEST_BYTES, SILENT_SECONDS, Limits
from negserve_server.errors import InvalidInput, Refusal

_SWEEP_SECONDS = 0.25
#: How long connections stay open after the last stream's end. A proxy that has not passed all on
#: yet, since its client reads slowly, drops the rest, the status too, when its server hangs up.
_LINGER_SECONDS = 2.0
#: As ``SILENT_SECONDS`` for calls with one small request, which comes with the call.
_CALL_GRACE_SECONDS = 2.0
#: An answer that waits for so long waits for a client that sends before it reads, or does neither.
_STUCK_SECONDS = 0.25
#: Bytes of requests that are read ahead, of all streams together: so many times those of one.
_MOST_STREAMS_AHEAD = 4


class OpenStreams:
    """Keeps account of the open calls: streams, and apart from them calls with one short request.

    :param limits: how many there may be
    :param by_token: whether tokens are checked
    """

    def __init__(self, limits: Limits, *, by_token: bool = False) -> None:
        self._limits = limits
        self._streams = Places(limits, SILENT_SECONDS, by_token=by_token)
        self._calls = Places(limits, _CALL_GRACE_SECONDS, by_token=by_token)
        self._draining = False

    def __len__(self) -> int:
        """Count the open calls."""
        return len(self._streams) + len(self._calls)

    def __iter__(self) -> Iterator[ServerStream[Any]]:
        return chain(self._streams, self._calls)

    @contextmanager
    def admit(
        self, stream: ServerStream[Any], *, is_short: bool = False, is_watch: bool = False
    ) -> Iterator[None]:
        """Hold a place for a call.

        :param is_short: whether it has one short request, and ends with its answer
        :param is_watch: whether it tells of the server's health
        :raises Refusal: if the server drains, or has as many as it takes
        """
        if self._draining:
            raise draining()
        places = self._places(is_short)
        places.take(stream, is_watch=is_watch)
        try:
            yield
        finally:
            places.leave(stream)

    def leaving(
        self, stream: ServerStream[Any], *, is_short: bool = False
    ) -> AbstractContextManager[None]:
        """Count a call that tells its client why it ended, see :meth:`Places.leaving`."""
        return self._places(is_short).leaving(stream)

    def _places(self, is_short: bool) -> Places:
        return self._calls if is_short else self._streams

    async def drain(self, seconds: float) -> None:
        """Take no more calls, end the open ones after the answer they work on, let it arrive.

        :param seconds: after which it returns in any case
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._draining = True
        # Who watches health hears it as news, and ends then.
        ending = [stream.task if stream.is_resting else stream.end(draining()) for stream in self]
        if ending:
            await asyncio.wait(ending, timeout=seconds)
            await asyncio.sleep(min(_LINGER_SECONDS, max(deadline - loop.time(), 0.0)))

    async def sweep(self) -> None:
        """For ever, end streams that are silent for too long, and hear those that can't read."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._limits.idle_timeout))
            for places in (self._streams, self._calls):
                places.forget_searches()
            for stream in self:
                limit = min(self._limits.idle_timeout, stream.idle_timeout)
                if stream.idle_seconds > limit:
                    stream.end(
                        Refusal(
                            f"no message for {limit:g} seconds; open the stream again when there "
                            f"is something to send",
                            reason="STREAM_IDLE",
                            limit=limit,
                        )
                    )
                elif stream.stuck_seconds > _STUCK_SECONDS:
                    stream.read_ahead(partial(self._check_ahead, stream))

    def _check_ahead(self, stream: ServerStream[Any]) -> None:
        """Refuse a stream whose client sent more ahead than it may; the largest, if all do."""
        limits = self._limits
        # The one whose answer waits is unanswered, too.
        num_messages = stream.num_messages_ahead + 1
        if num_messages > limits.max_unanswered_messages:
            stream.refuse(_unanswered("messages", num_messages, limits.max_unanswered_messages))
        elif num_messages > 2 and stream.num_bytes_ahead > limits.max_unanswered_bytes:
            stream.refuse(_unanswered("bytes", stream.num_bytes_ahead, limits.max_unanswered_bytes))
        total = sum(each.num_bytes_ahead for each in self._streams)
        most = _MOST_STREAMS_AHEAD * max(limits.max_unanswered_bytes, MAX_REQUEST_BYTES)
        if total > most:
            largest = max(self._streams, key=lambda each: each.num_bytes_ahead)
            largest.refuse(_unanswered("bytes", total, most, " of all callers"))


def draining() -> Refusal:
    """Give what callers hear of a server that shuts down."""
    return Refusal(
        "the server is shutting down; ask another replica, or this one later: the same request "
        "gives the same bytes",
        reason="DRAINING",
    )


def _unanswered(field: str, value: int, limit: int, whose: str = "") -> InvalidInput:
    return InvalidInput(
        f"{value} {field} of requests{whose} are unanswered, the limit is {limit}; read answers "
        f"before you send more",
        reason="TOO_MANY_UNANSWERED",
        resource=field,
        value=value,
        limit=limit,
    )
