"""Makes untrusted text safe to show on a terminal, in a log or in an error."""

from __future__ import annotations

import re

#: Characters that move a cursor, end a line or reorder text: C0 and C1 controls, line and
#: paragraph separators, bidirectional controls. Also lone surrogates, which can't be encoded.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Escape control characters, each as ``\uXXXX``, which JSON reads as the same string.

    Letters, marks and symbols of all scripts are kept.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
