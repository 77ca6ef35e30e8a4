"""JSON for terminals and pipes."""

from __future__ import annotations

import json

from negserve.types.checks.text import printable


def json_text(value: object) -> str:
    """Encode as JSON in which only control characters are escaped."""
    return printable(json.dumps(value, ensure_ascii=False))
