"""The pair index against Python's sets and dicts, over the whole range of 32-bit ids."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve.types.triples import sort_unique_triples
from negserve_server.index import PairIndex, Pairs

LARGEST_ID = 2**32 - 1
Triple = tuple[int, int, int]

#: For tests whose first example may wait for the kernels to compile.
patient = settings(deadline=None)

# Few small ids, so that pairs repeat, and the edges of 16, 31 and 32 bits.
ids = st.one_of(
    st.integers(0, 6),
    st.sampled_from([2**16 - 1, 2**16, 2**31 - 1, 2**31, LARGEST_ID - 1, LARGEST_ID]),
    st.integers(0, LARGEST_ID),
)
small_ids = st.integers(0, 6)
triple_lists = st.one_of(
    st.lists(st.tuples(small_ids, small_ids, small_ids), max_size=60),
    st.lists(st.tuples(ids, ids, ids), max_size=60),
)
LARGEST_TRIPLE = (LARGEST_ID, LARGEST_ID, LARGEST_ID)


def as_array(triples: list[Triple]) -> NDArray[np.int64]:
    """Convert triples to shape (n, 3), also if there are none."""
    return np.array(triples, dtype=np.int64).reshape(-1, 3)


def build(
    triples: NDArray[np.int64],
    num_first: int = LARGEST_ID + 1,
    num_second: int = LARGEST_ID + 1,
    num_values: int = LARGEST_ID + 1,
    **options: int,
) -> PairIndex:
    """Index triples by their first two columns."""
    columns = triples[:, 0], triples[:, 1], triples[:, 2]
    sizes = num_first, num_second, np.array([num_values])
    return PairIndex.build(Pairs(*columns, *sizes), **options)


def by_pair(triples: list[Triple]) -> dict[tuple[int, int], set[int]]:
    """The oracle: the known values of each pair."""
    known: dict[tuple[int, int], set[int]] = defaultdict(set)
    for first, second, value in triples:
        known[first, second].add(value)
    return known


@patient
@given(triple_lists)
@example([LARGEST_TRIPLE, (0, 0, 0), LARGEST_TRIPLE])
def test_known_values_are_sorted_and_complete(triples: list[Triple]) -> None:
    index = build(as_array(triples))
    oracle = by_pair(triples)
    assert index.num_pairs == len(oracle)
    for (first, second), values in oracle.items():
        assert index.known(first, second).tolist() == sorted(values)


@patient
@given(triple_lists, st.lists(st.tuples(ids, ids), max_size=20))
@example([LARGEST_TRIPLE], [(0, 0), (LARGEST_ID, 0), (0, LARGEST_ID)])
@example([], [(0, 0), (LARGEST_ID, LARGEST_ID)])
def test_a_pair_without_values_has_none(
    triples: list[Triple], pairs: list[tuple[int, int]]
) -> None:
    index = build(as_array(triples))
    oracle = by_pair(triples)
    for pair in pairs:
        if pair not in oracle:
            assert index.known(*pair).tolist() == []


@patient
@given(triple_lists, st.lists(st.tuples(ids, ids, ids), max_size=40))
@example([LARGEST_TRIPLE], [LARGEST_TRIPLE, (LARGEST_ID, LARGEST_ID, 0), (0, 0, 0)])
@example([(0, 0, 0)], [(0, 0, 0), LARGEST_TRIPLE, (0, 0, 1)])
def test_contains_in_bulk(triples: list[Triple], others: list[Triple]) -> None:
    index = build(as_array(triples))
    # Neighbours of what is known are the ones that a faulty search mistakes for known.
    near = [
        (first, second, value + step)
        for first, second, value in triples
        for step in (-1, 1)
        if 0 <= value + step <= LARGEST_ID
    ]
    asked = triples + near + others
    queries = as_array(asked)
    answers = index.contains(queries[:, 0], queries[:, 1], queries[:, 2])
    assert answers.dtype == np.bool_
    assert answers.tolist() == [triple in set(triples) for triple in asked]


@patient
@given(triple_lists, st.integers(1, 3))
def test_repetitions_and_order_make_no_difference(triples: list[Triple], times: int) -> None:
    once = build(as_array(triples))
    again = build(as_array(list(reversed(triples * times))))
    assert again.num_pairs == once.num_pairs
    assert again.lists.tolist() == once.lists.tolist()
    assert again.directory.tolist() == once.directory.tolist()


def test_many_pairs_of_neighbouring_ids_are_all_found() -> None:
    first, second = np.divmod(np.arange(40_000, dtype=np.int64), 200)
    value = (first * 7 + second) % 1000
    index = build(np.stack([first, second, value], axis=1))
    assert index.num_pairs == 40_000
    assert index.contains(first, second, value).all()
    assert not index.contains(first, second, value + 1).any()
    assert not index.contains(first + 200, second, value).any()


@patient
@given(st.lists(st.tuples(small_ids, small_ids, small_ids), max_size=60))
@example([])
def test_triples_of_narrow_ids_are_sorted_and_unique(triples: list[Triple]) -> None:
    assert_sorted_and_unique(triples)


@patient
@given(st.lists(st.tuples(ids, ids, ids), max_size=60))
def test_triples_of_wide_ids_are_sorted_and_unique(triples: list[Triple]) -> None:
    assert_sorted_and_unique([*triples, LARGEST_TRIPLE, LARGEST_TRIPLE])


# The bits of the columns' largest ids together decide: up to 64 are packed into one key.
@pytest.mark.parametrize(
    "largest",
    [
        (2**22 - 1, 2**21 - 1, 2**21 - 1),  # 64 bits
        (LARGEST_ID, 1, 2**31 - 1),  # 64 bits
        (2**22 - 1, 2**22 - 1, 2**21 - 1),  # 65 bits
        (2**21, 2**20, 2**21),  # 65 bits
        (LARGEST_ID, 1, LARGEST_ID),  # 65 bits
    ],
)
def test_triples_at_the_limit_of_one_packed_key_are_sorted_and_unique(largest: Triple) -> None:
    heads, relations, tails = ({0, 1, each // 2, each - 1, each} for each in largest)
    assert_sorted_and_unique(list(product(heads, relations, tails)) * 2)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_dtype_is_sorted_alike(dtype: type[np.integer]) -> None:
    triples = np.array([[3, 2, 1], [0, 65535, 9], [3, 2, 1], [3, 1, 5]], dtype=dtype)
    expected = [[0, 65535, 9], [3, 1, 5], [3, 2, 1]]
    assert sort_unique_triples(triples).tolist() == expected


def assert_sorted_and_unique(triples: list[Triple]) -> None:
    given_array = as_array(triples)
    before = given_array.copy()
    result = sort_unique_triples(given_array)
    assert result.dtype == np.int64
    assert result.shape == (len(set(triples)), 3)
    assert [tuple(row) for row in result.tolist()] == sorted(set(triples))
    assert np.array_equal(given_array, before), "the caller's array was changed"
