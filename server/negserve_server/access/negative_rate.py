"""How many negatives a caller may have each second: a token bucket."""

from __future__ import annotations

import time

from negserve.types.checks.text import shortened
from negserve_server.errors import Refusal

#: Seconds of the rate that may be drawn at once after a pause.
_BURST_SECONDS = 1.0
#: A message waits at most this long for its turn: less than clients wait for one.
MOST_DELAY_SECONDS = 10.0


class NegativeRate:
    """Spreads the negatives of a caller, on all its streams, over time.

    A message may be larger than what the bucket holds: it is sent, and later ones wait until it is
    paid for. Messages have their turns in the order in which they ask.

    :param per_second: negatives a second
    :param name: of the caller, or the subject of its certificate
    """

    def __init__(self, per_second: float, name: str) -> None:
        self.per_second = per_second
        self._name = name
        #: When everything taken is paid for, monotonic.
        self._paid_at = 0.0

    def take(self, count: int) -> float:
        """Take negatives; return how many seconds to wait before they are sent.

        :raises Refusal: with ``QUOTA_EXCEEDED``, if their turn is too far away; nothing is taken
        """
        now = time.monotonic()
        begin = max(self._paid_at, now - _BURST_SECONDS)
        delay = max(begin - now, 0.0)
        if delay > MOST_DELAY_SECONDS:
            raise Refusal(
                f"{shortened(self._name)} has drawn more than its {self.per_second:g} negatives a "
                f"second, the next turn is in {delay:.1f} seconds, the limit is "
                f"{MOST_DELAY_SECONDS:g}; ask then, for fewer negatives at once or on fewer "
                f"streams, or ask the operator to raise negatives_per_second",
                reason="QUOTA_EXCEEDED",
                retry_seconds=delay,
                caller=self._name,
                resource="negatives_per_second",
                value=f"{delay:.1f} seconds",
                limit=self.per_second,
            )
        self._paid_at = begin + count / self.per_second
        return delay

    def give_back(self, count: int) -> None:
        """Give back negatives that are not sent."""
        self._paid_at -= count / self.per_second
