"""The helper that chooses combinations of test cases."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

from tests.support.pairwise import pairwise

PARAMETERS: dict[str, Any] = {
    "graph": "abcd",
    "way": ("in-process", "remote", "aio"),
    "kind": range(25),
    "k": (1, 64, 1000),
    "filtered": (False, True),
}


def meaningful(row: dict[str, Any]) -> bool:
    return row["way"] != "aio" or row["graph"] == "a"


def pairs(rows: Any) -> set[Any]:
    return {
        (i, row[i], j, row[j]) for row in rows for i, j in combinations(range(len(PARAMETERS)), 2)
    }


def test_every_pair_that_has_a_meaning_is_there_and_nothing_else() -> None:
    rows = pairwise(PARAMETERS, allowed=meaningful)
    everything = [
        row
        for row in product(*PARAMETERS.values())
        if meaningful(dict(zip(PARAMETERS, row, strict=True)))
    ]
    assert pairs(rows) == pairs(everything)
    assert set(rows) <= set(everything)
    assert len(set(rows)) == len(rows) <= 120, "graph and kind make 100 pairs"
    assert rows == pairwise(PARAMETERS, allowed=meaningful)


def test_some_parameters_are_crossed() -> None:
    rows = pairwise(PARAMETERS, allowed=meaningful, together=("kind", "k", "filtered"))
    assert {row[2:] for row in rows} == set(product(range(25), (1, 64, 1000), (False, True)))
    assert len(rows) <= 165


def test_a_single_parameter_keeps_its_values() -> None:
    assert pairwise({"kind": "abc"}) == [("a",), ("b",), ("c",)]
