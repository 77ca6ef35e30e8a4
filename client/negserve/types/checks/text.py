"""Untrusted values as text that is safe, and short enough, for terminals, logs and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Characters of a value that an error repeats.
MOST_CHARACTERS = 160
#: Characters of the names that a limit consists of.
_MOST_OF_NAMES = 800
#: Items of a list that an error names.
_MOST_NAMED = 5

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


def shortened(value: object, most: int = MOST_CHARACTERS) -> str:
    """Write a value for people: on one line, and if it is long, without its middle.

    :param most: characters that the text has at most
    """
    text = value if isinstance(value, str) else str(_few(value))
    return _without_middle(printable(_without_middle(text, most)), most)


def _without_middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = max((most - 3) // 2, 1)
    return f"{text[:half]}...{text[-half:]}"


def _few(value: object) -> object:
    """Give a list as long as it may be written, anything else as it is."""
    if isinstance(value, list | tuple) and len(value) > MOST_CHARACTERS:
        return f"{len(value)} values, {list(value[:_MOST_NAMED])} and so on"
    return value


def quoted(text: str) -> str:
    """Write a text that a caller sent: as :func:`shortened`, in quotes."""
    return f"'{shortened(text)}'"


def listed(names: Iterable[str]) -> str:
    """Name the first few of a list, and how many more there are."""
    names = list(names)
    text = ", ".join(
        shortened(name, MOST_CHARACTERS // _MOST_NAMED) for name in names[:_MOST_NAMED]
    )
    more = len(names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text


def limit_text(limit: float | tuple[object, ...]) -> tuple[str, int]:
    """Write a limit for a program: a number, or names, and count the names without room."""
    names = [
        shortened(str(name), _MOST_OF_NAMES)
        for name in (limit if isinstance(limit, tuple) else (limit,))
    ]
    kept = 0
    num_characters = 0
    for name in names:
        num_characters += len(name) + 2
        if num_characters > _MOST_OF_NAMES:
            break
        kept += 1
    return ", ".join(names[:kept]), len(names) - kept
