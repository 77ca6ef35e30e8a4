"""The line of the access log about a call."""

from __future__ import annotations

import logging
import time

from negserve_server.logs.call import CALL
from negserve_server.logs.fields import Event, EventFields
from negserve_server.metrics.call_meter import CallMeter

_logger = logging.getLogger("negserve_server.access_log")
# Whatever the log level is: who turns the access log on wants it.
_logger.setLevel(logging.INFO)
_EVENT: Event = "call_ended"


class AccessLine(CallMeter):
    """Counts the messages of one call, and logs a line at its end.

    :param meter: counts those of all calls
    """

    def __init__(self, meter: CallMeter) -> None:
        self._meter = meter
        self._begin = time.monotonic()
        self._requests = self._answers = self._bytes_in = self._bytes_out = 0

    def received(self, num_bytes: int) -> None:
        """Count the bytes of a request."""
        self._requests += 1
        self._bytes_in += num_bytes
        self._meter.received(num_bytes)

    def sent(self, num_bytes: int) -> None:
        """Count the bytes of an answer."""
        self._answers += 1
        self._bytes_out += num_bytes
        self._meter.sent(num_bytes)

    def ended(self, code: str, reason: str = "") -> None:
        """Log the call, which has ended."""
        self._meter.ended(code, reason)
        call = CALL.get()
        assert call is not None, "handlers set it"
        seconds = time.monotonic() - self._begin
        fields = EventFields(
            code=code,
            reason=reason,
            seconds=round(seconds, 6),
            requests=self._requests,
            answers=self._answers,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
        )
        _logger.info(
            "%s %s%s in %.3f s: requests %d (%d bytes), answers %d (%d bytes), %sby %s",
            call.rpc,
            code,
            f" {reason}" if reason else "",
            seconds,
            self._requests,
            self._bytes_in,
            self._answers,
            self._bytes_out,
            f"dataset {call.dataset}, " if call.dataset else "",
            call.asker,
            extra={"event": _EVENT, **fields},
        )
