"""``docs/security.md``: each threat has a test, and each named test exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.graphs import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "security.md").read_text()
THREATS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCUMENT.splitlines()
    if line.startswith("|") and not line.startswith(("| threat", "|---"))
]


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat[0])
def test_each_threat_has_a_bound_and_a_test_that_exists(threat: list[str]):
    what, bound, tests = threat
    assert what
    assert bound
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
    assert named, "no test"
    assert tests == " ".join(f"`{path}::{name}`" for path, name in named)
    for path, name in named:
        tree = ast.parse((REPOSITORY / path).read_text())
        assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_there_are_threats_and_the_policy_points_to_them():
    assert len(THREATS) > 20
    assert "(docs/security.md)" in (REPOSITORY / "SECURITY.md").read_text()
