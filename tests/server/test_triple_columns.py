"""Narrow columns hold the triples that rows of int64 hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negserve.types.fingerprint import split_fingerprint
from negserve.types.triples import sort_unique_triples
from negserve_server import triple_columns
from negserve_server.triple_columns import TripleColumns

LAST = 2**32 - 1


@pytest.mark.parametrize(
    ("num_entities", "num_relations", "row_bytes"),
    [(2, 1, 3), (256, 256, 3), (257, 1, 5), (65_536, 257, 6), (65_537, 1, 9), (2**32, 2**32, 12)],
)
@given(data=st.data())
def test_columns_are_sorted_distinct_and_narrow(
    num_entities: int, num_relations: int, row_bytes: int, data: st.DataObject
):
    ids = st.sampled_from([0, 1, num_entities // 2, num_entities - 1])
    relations = st.sampled_from([0, num_relations // 3, num_relations - 1])
    rows = data.draw(st.lists(st.tuples(ids, relations, ids), max_size=12))
    given_rows = np.array(rows, dtype=np.int64).reshape(-1, 3)
    expected = sort_unique_triples(given_rows)
    columns = TripleColumns.of(given_rows, num_entities, num_relations)
    np.testing.assert_array_equal(columns.array(), expected)
    assert columns.array().dtype == np.int64
    assert columns.row_bytes == row_bytes
    assert columns.nbytes == row_bytes * len(expected)
    assert columns.fingerprint(num_entities, num_relations) == split_fingerprint(
        expected, num_entities, num_relations
    )
    assert columns.are_among(given_rows).all()
    if len(expected):
        chosen = np.array([len(expected) - 1, 0])
        np.testing.assert_array_equal(columns.rows(chosen), expected[chosen])
        with pytest.raises(ValueError, match="read-only"):
            columns.heads[0] = 1


def test_blocks_have_every_triple_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triple_columns, "_BLOCK", 7)
    rows = np.stack(np.unravel_index(np.arange(20), (5, 2, 2)), axis=1)
    shuffled = np.concatenate([rows[::-1], rows[3:9]])
    columns = TripleColumns.of(shuffled, 5, 2)
    np.testing.assert_array_equal(np.concatenate(list(columns.blocks())), rows)
    assert columns.fingerprint(5, 2) == split_fingerprint(rows, 5, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("num_ids", [200, 2**32])
def test_parts_are_sorted_as_the_whole(
    num_ids: int, dtype: type[np.integer], monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(0)
    num_ids = min(num_ids, np.iinfo(dtype).max + 1)
    rows = rng.integers(0, num_ids, (2_000, 3))
    rows[:500, 0] = rows[0, 0]  # one head has more than a part
    rows[500:600] = num_ids - 1
    expected = sort_unique_triples(rows)
    monkeypatch.setattr(triple_columns, "_PART", 100)
    heads = np.ascontiguousarray(rows[:, 0], dtype=dtype)
    assert len(triple_columns._head_ranges(heads)) > 5
    columns = TripleColumns.sorted(*rows.astype(dtype).T, num_ids, num_ids)
    np.testing.assert_array_equal(columns.array(), expected)


def test_a_union_has_each_triple_once():
    parts = [TripleColumns.of(np.array(rows), LAST, 3) for rows in (
        [[1, 2, 3], [LAST - 1, 0, 0]], [[0, 1, 0], [1, 2, 3]],
    )]  # fmt: skip
    assert TripleColumns.union(parts[:1], LAST, 3) is parts[0]
    assert TripleColumns.union(parts, LAST, 3).array().tolist() == [
        [0, 1, 0], [1, 2, 3], [LAST - 1, 0, 0],
    ]  # fmt: skip
