"""Mistyped names."""

from __future__ import annotations

import pytest

from negserve.terminal.nearest import did_you_mean

NAMES = ["world", "fb15k-237", "wn18rr", "has_capital", "shares_border_with", "Côte d'Ivoire"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrold", "; did you mean 'world'?"),
        ("WORLD", "; did you mean 'world'?"),
        ("fb15k237", "; did you mean 'fb15k-237'?"),
        ("has capital", "; did you mean 'has_capital'?"),
        ("Côte d’Ivoire", '; did you mean "Côte d\'Ivoire"?'),
        ("moon", ""),
        ("", ""),
        ("x" * 10_000, ""),
    ],
)
def test_similar_names_are_suggested(name: str, expected: str):
    assert did_you_mean(name, NAMES) == expected


def test_many_names_take_no_time():
    names = [f"/m/{i:06x}" for i in range(300_000)]
    assert "did you mean" in did_you_mean("/M/0000ff", names)
    assert did_you_mean("Atlantis", names) == ""
