"""Log of calls that were refused for who called, rate-limited."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextvars import Context

from negserve_server.access.caller import Caller
from negserve_server.logs.audit import audit

#: Interval of log lines.
_LINE_SECONDS = 10.0
_WORDS = {
    "CREDENTIALS_MISSING": "without a token",
    "CREDENTIALS_INVALID": "with a wrong token",
    "NOT_PERMITTED": "without the scope",
}


class RefusedCalls:
    """Counts calls that were refused for who called.

    The first is logged at once, later ones together every few seconds. Tokens are never logged.

    :ivar total: number of refused calls
    """

    def __init__(self) -> None:
        self.total = 0
        self._not_logged: Counter[str] = Counter()
        self._is_waiting = False
        self._peer = self._caller = ""

    def note(self, peer: str, reason: str, caller: Caller | None) -> None:
        """Count a call; from the event loop.

        :param peer: the caller, as gRPC names it: the port helps to find the process
        :param reason: ``CREDENTIALS_MISSING``, ``CREDENTIALS_INVALID`` or ``NOT_PERMITTED``
        :param caller: who it is; None if that is not known
        """
        self.total += 1
        self._not_logged[reason] += 1
        self._peer, self._caller = peer, "" if caller is None else caller.name
        if not self._is_waiting:
            self._log()

    def _log(self) -> None:
        parts = (f"{count} {_WORDS[reason]}" for reason, count in sorted(self._not_logged.items()))
        audit(
            "authentication_failed",
            "calls refused for their credentials: %s, the last from %s; %d since the start",
            ", ".join(parts),
            f"{self._caller} at {self._peer}" if self._caller else self._peer,
            self.total,
            level=logging.WARNING,
            peer=self._peer,
            caller=self._caller,
            refused=dict(self._not_logged),
        )
        self._not_logged.clear()
        self._is_waiting = True
        # The next line is about other calls than the current one.
        asyncio.get_running_loop().call_later(_LINE_SECONDS, self._log_again, context=Context())

    def _log_again(self) -> None:
        self._is_waiting = False
        if self._not_logged:
            self._log()
