"""What is counted of the calls of one RPC."""

from __future__ import annotations

from collections.abc import Callable

from negserve_server.metrics.pending import Pending, Tally


class CallMeter:
    """The meter of calls that nobody asks for: it counts nothing."""

    def received(self, num_bytes: int) -> None:
        """Count the bytes of a request."""

    def sent(self, num_bytes: int) -> None:
        """Count the bytes of an answer."""

    def ended(self, code: str, reason: str = "") -> None:
        """Count a call that has ended.

        :param code: name of its status, such as ``OK``
        :param reason: of its refusal; empty if it was none
        """


#: Of all RPCs of a server that nobody scrapes.
NO_CALLS = CallMeter()


class CountingCallMeter(CallMeter):
    """Counts the calls of one RPC.

    :param pending: adds bytes up from time to time, since messages are many
    :param add_received: adds received bytes to their metric
    :param add_sent: adds sent bytes to their metric
    :param count: counts a call by code and reason
    """

    def __init__(
        self,
        pending: Pending,
        add_received: Callable[[float], None],
        add_sent: Callable[[float], None],
        count: Callable[[str, str], None],
    ) -> None:
        self._pending = pending
        self._received = pending.add(Tally(add_received))
        self._sent = pending.add(Tally(add_sent))
        self._count = count

    def received(self, num_bytes: int) -> None:
        """Count the bytes of a request."""
        self._received.amount += num_bytes
        if not self._pending.is_due:
            self._pending.schedule()

    def sent(self, num_bytes: int) -> None:
        """Count the bytes of an answer."""
        self._sent.amount += num_bytes
        if not self._pending.is_due:
            self._pending.schedule()

    def ended(self, code: str, reason: str = "") -> None:
        """Count a call that has ended."""
        self._count(code, reason)
