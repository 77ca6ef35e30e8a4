"""How long to wait before the next try."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

_FIRST_SECONDS = 0.05
_LONGEST_SECONDS = 2.0


def tries(budget_seconds: float) -> Iterator[None]:
    """Yield once per try: at once, then after full-jitter exponential waits, within a budget."""
    deadline = time.monotonic() + budget_seconds
    ceiling = _FIRST_SECONDS
    while True:
        yield
        wait = random.uniform(0.5, 1.0) * ceiling
        if time.monotonic() + wait > deadline:
            return
        time.sleep(wait)
        ceiling = min(2 * ceiling, _LONGEST_SECONDS)
