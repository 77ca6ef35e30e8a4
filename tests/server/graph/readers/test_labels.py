"""Numbers of labels, also where labels share a hash."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negserve_server.graph.readers import labels as module
from negserve_server.graph.readers.labels import Labels

columns = st.lists(st.lists(st.text("abcä ", max_size=3), max_size=40), max_size=4)


def assert_numbered(columns: list[list[str]]) -> None:
    """Equal labels have equal numbers, in all columns, and a number is that of one label."""
    labels = Labels()
    numbers: list[int] = []
    for column in columns:
        encoded = labels.encode(pl.Series("head", column, dtype=pl.String))
        assert encoded.dtype == pl.UInt32
        numbers += encoded.to_list()
    every = [label for column in columns for label in column]
    assert [labels.all[number] for number in numbers] == every
    assert sorted(labels.all.to_list()) == sorted(set(every))


@settings(deadline=None)
@given(columns)
def test_labels_are_numbered(columns: list[list[str]]):
    assert_numbered(columns)


@pytest.mark.parametrize("num_hashes", [1, 3])
def test_labels_that_share_a_hash_are_told_apart(num_hashes: int, monkeypatch: pytest.MonkeyPatch):
    def hashes(labels: pl.Series) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([len(label) % num_hashes for label in labels], dtype=np.uint64)

    monkeypatch.setattr(module, "_hashes", hashes)
    words = [["a", "b", "a", "", "ab", "b"], ["c", "a", "abc", "ab"], ["b", "d", "d", "c"]]
    assert_numbered(words)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    assert_numbered([[str(each) for each in rng.integers(0, 3_000, 5_000)] for _ in range(3)])


def test_labels_of_the_training_triples_come_first():
    labels = Labels()
    labels.encode(pl.Series(["x", "y", "x"]))
    labels.end_training()
    labels.encode(pl.Series(["z", "x"]))
    assert labels.training.to_list() == ["x", "y"]
    assert labels.all.to_list() == ["x", "y", "z"]
