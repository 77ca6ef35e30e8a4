"""Calls without good credentials, counted and logged."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

logger = logging.getLogger(__name__)

#: From one line to the next, however many calls there are.
_LINE_SECONDS = 10.0
_WORDS = {"CREDENTIALS_MISSING": "without a token", "CREDENTIALS_INVALID": "with a wrong token"}


class RefusedCalls:
    """Counts calls that were refused for their credentials.

    The first is logged at once, those after it together every few seconds; never a token.

    :ivar total: how many there were
    """

    def __init__(self) -> None:
        self.total = 0
        self._untold: Counter[str] = Counter()
        self._is_waiting = False
        self._peer = ""

    def note(self, peer: str, reason: str) -> None:
        """Count a call; from the event loop.

        :param peer: who made it, as gRPC has it: with its port, by which the process can be found
        :param reason: ``CREDENTIALS_MISSING`` or ``CREDENTIALS_INVALID``
        """
        self.total += 1
        self._untold[reason] += 1
        self._peer = peer
        if not self._is_waiting:
            self._tell()

    def _tell(self) -> None:
        parts = (f"{count} {_WORDS[reason]}" for reason, count in sorted(self._untold.items()))
        logger.warning(
            "calls refused for their credentials: %s, the last from %s; %d since the start",
            ", ".join(parts),
            self._peer,
            self.total,
        )
        self._untold.clear()
        self._is_waiting = True
        asyncio.get_running_loop().call_later(_LINE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._is_waiting = False
        if self._untold:
            self._tell()
