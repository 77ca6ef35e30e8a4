"""Admission control: which calls are open, and which are refused or ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from typing import Any

from negserve_server.access.usage import Usage
from negserve_server.admission.call_limiter import CallLimiter
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import MAX_REQUEST_BYTES, SILENT_SECONDS, Limits
from negserve_server.errors import InvalidInput, Refusal
from negserve_server.metrics.server_metrics import NO_METRICS, ServerMetrics

_SWEEP_SECONDS = 0.25
#: How long connections stay open after the end of the last stream. A proxy whose client reads
#: slowly drops what it has not forwarded yet, also the status, when the server closes the
#: connection.
_LINGER_SECONDS = 2.0
#: As ``SILENT_SECONDS``, for calls with one small request, which arrives with the call.
_CALL_GRACE_SECONDS = 2.0
#: An answer that waits this long waits for a client that sends before it reads, or does neither.
_STUCK_SECONDS = 0.25
#: Bytes of requests read ahead, of all streams together, as a multiple of those of one.
_MAX_STREAMS_AHEAD = 4


class AdmissionControl:
    """Admits calls, and ends those that are silent for too long.

    Streams, and calls with one short request, have limits apart from each other.

    :param limits: how many may be open
    :param metrics: count what becomes of the calls
    :ivar usage: what the calls use
    :ivar is_drained: whether an operator has taken the process out of service
    :ivar has_access_log: whether each call is logged at its end
    """

    def __init__(
        self,
        limits: Limits,
        *,
        metrics: ServerMetrics = NO_METRICS,
        has_access_log: bool = False,
    ) -> None:
        self.has_access_log = has_access_log
        self._limits = limits
        self.metrics = metrics
        self._streams = CallLimiter(limits, SILENT_SECONDS)
        self._calls = CallLimiter(limits, _CALL_GRACE_SECONDS)
        self.usage = Usage()
        self.is_drained = False
        self._is_ending = False

    def __len__(self) -> int:
        """Count the open calls."""
        return len(self._streams) + len(self._calls)

    def __iter__(self) -> Iterator[ServerStream[Any]]:
        return chain(self._streams, self._calls)

    @contextmanager
    def admit(
        self,
        stream: ServerStream[Any],
        *,
        is_short: bool = False,
        is_watch: bool = False,
        outlives_drain: bool = False,
    ) -> Iterator[None]:
        """Count a call while it is open.

        :param is_short: whether it has one short request, and ends with its answer
        :param is_watch: whether it watches the server's health
        :param outlives_drain: whether it is answered also while an operator has drained the server
        :raises Refusal: if the server drains, or a limit is reached
        """
        if self._is_ending or (self.is_drained and not outlives_drain):
            raise draining(is_ending=self._is_ending)
        stream.is_watch = is_watch
        stream.outlives_drain = outlives_drain
        limiter = self._limiter(is_short)
        limiter.acquire(stream, is_watch=is_watch)
        if stream.use.rpc:
            self.usage.begin(stream.use)
        try:
            yield
        finally:
            limiter.release(stream)
            if stream.use.rpc:
                self.usage.end(stream.use)

    def closing(
        self, stream: ServerStream[Any], *, is_short: bool = False
    ) -> AbstractContextManager[None]:
        """Count a call whose status is being sent, see :meth:`CallLimiter.closing`."""
        return self._limiter(is_short).closing(stream)

    def _limiter(self, is_short: bool) -> CallLimiter:
        return self._calls if is_short else self._streams

    def set_drained(self, is_drained: bool) -> int:
        """Take the process out of service, or back, for its operator.

        Open calls end after their current answer, without those that wait for something in the
        server, which must be completed, and those that are answered in any case.

        :return: how many end
        """
        self.is_drained = is_drained
        ending = [
            stream
            for stream in self
            if is_drained and not stream.outlives_drain and not stream.is_resting
        ]
        for stream in ending:
            stream.end(draining(is_ending=False))
        return len(ending)

    def streams_of(self, dataset: str) -> list[ServerStream[Any]]:
        """Give the open calls that use a dataset."""
        return [stream for stream in self if stream.use.dataset == dataset]

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, and end open ones after their current answer has arrived.

        :param seconds: after which it returns in any case
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._is_ending = True
        # Health watches end themselves, after they have sent the new status, also if they still
        # send the one before.
        ending = [
            stream.task if stream.is_resting or stream.is_watch else stream.end(draining())
            for stream in self
        ]
        if ending:
            await asyncio.wait(ending, timeout=seconds)
            await asyncio.sleep(min(_LINGER_SECONDS, max(deadline - loop.time(), 0.0)))

    async def sweep(self) -> None:
        """End silent streams, and read ahead where an answer waits; runs until cancelled."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._limits.idle_timeout))
            for limiter in (self._streams, self._calls):
                limiter.forget_searches()
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
        """End a stream that sent too much ahead, or the largest, if all together did."""
        limits = self._limits
        # The request whose answer waits is unanswered, too.
        num_messages = stream.num_messages_ahead + 1
        if num_messages > limits.max_unanswered_messages:
            stream.refuse(_unanswered("messages", num_messages, limits.max_unanswered_messages))
        elif num_messages > 2 and stream.num_bytes_ahead > limits.max_unanswered_bytes:
            stream.refuse(_unanswered("bytes", stream.num_bytes_ahead, limits.max_unanswered_bytes))
        total = sum(each.num_bytes_ahead for each in self._streams)
        most = _MAX_STREAMS_AHEAD * max(limits.max_unanswered_bytes, MAX_REQUEST_BYTES)
        if total > most:
            largest = max(self._streams, key=lambda each: each.num_bytes_ahead)
            largest.refuse(_unanswered("bytes", total, most, " of all callers"))


def draining(*, is_ending: bool = True) -> Refusal:
    """Make the refusal of a server that shuts down, or that its operator has drained."""
    what = "the server is shutting down" if is_ending else "the server's operator has drained it"
    return Refusal(
        f"{what}; ask another replica, or this one later: the same request gives the same bytes",
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
