"""Suggestions for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

#: At most this many names are compared letter by letter, which takes some tenths of a second.
_MOST_COMPARED = 20_000


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of an error: ``; did you mean 'world'?``, or "" if no name is similar.

    :param name: the mistyped name
    :param names: the existing names; only those of similar length are compared
    """
    plain = _plain(name)
    alike = {each: _plain(each) for each in names if abs(len(each) - len(name)) <= 3}
    found = [each for each, other in alike.items() if other == plain][:3]
    if not found:
        compared = list(islice(alike, _MOST_COMPARED))
        found = get_close_matches(name, compared, n=3, cutoff=0.7)
    if not found:
        return ""
    return f"; did you mean {' or '.join(map(repr, found))}?"


def _plain(name: str) -> str:
    """Drop what is mistyped most often: case, and separators of words."""
    return "".join(filter(str.isalnum, name.casefold()))
