"""Text of others, as it may be shown: on a terminal, in a log, in an error."""

from __future__ import annotations

import re

#: What moves a cursor, ends a line, or shows text in another order than it has: all of C0 and C1,
#: separators of lines and paragraphs, bidirectional controls; and halves of characters, which
#: can't be written at all.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Escape control characters, each as ``\uXXXX``; in a string of JSON that is the same string.

    Letters, marks and symbols of all scripts stay as they are.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
