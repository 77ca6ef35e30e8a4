"""How many examples hypothesis tries."""

from __future__ import annotations

import os

#: Half of what tests say, so that they take less; NEGSERVE_EXAMPLES=10 tries ten times as many.
_SHARE = float(os.environ.get("NEGSERVE_EXAMPLES", "0.5"))


def examples(count: int) -> int:
    """Return the examples to try where a test asks for a count."""
    return max(1, round(count * _SHARE))
