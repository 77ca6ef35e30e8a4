"""Untrusted text moves no cursor and begins no line."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negserve.types.checks.text import printable

#: All of Unicode, halves of characters too.
TEXT = st.text(st.characters(exclude_categories=()))
BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_control(character: str) -> bool:
    return character in BIDIRECTIONAL or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


@given(TEXT)
def test_no_control_character_is_left_and_all_else_is(text: str):
    shown = printable(text)
    assert not any(map(is_control, shown))
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown) == shown
    if not any(map(is_control, text)):
        assert shown == text


@given(TEXT)
def test_json_stays_the_same_value(text: str):
    assert json.loads(printable(json.dumps([text], ensure_ascii=False))) == [text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\u001b[2Jgone"),
        ("a\r\nb\tc", r"a\u000d\u000ab\u0009c"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("Grüße aus 東京 👩‍🚀", "Grüße aus 東京 👩‍🚀"),
    ],
)
def test_examples(text: str, shown: str):
    assert printable(text) == shown
