"""The filter index against a plain set of triples, and its refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve_server.errors import IdOutOfRange
from negserve_server.graph import TriplesFactory
from negserve_server.index import FilterIndex
from negserve_server.tables import Tables

Triple = tuple[int, int, int]

#: For tests whose first example may wait for the kernels to compile.
patient = settings(deadline=None)
Graph = tuple[int, int, list[Triple]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Number of entities, number of relations, triples with repetitions."""
    num_entities, num_relations = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    entities, relations = st.integers(0, num_entities - 1), st.integers(0, num_relations - 1)
    triples = draw(st.lists(st.tuples(entities, relations, entities), max_size=50))
    return num_entities, num_relations, triples


def as_array(triples: list[Triple]) -> NDArray[np.int64]:
    """Convert triples to shape (n, 3), also if there are none."""
    return np.array(triples, dtype=np.int64).reshape(-1, 3)


def build(graph: Graph) -> FilterIndex:
    num_entities, num_relations, triples = graph
    return FilterIndex(as_array(triples), num_entities=num_entities, num_relations=num_relations)


@patient
@given(graphs())
def test_contains_is_right_for_every_possible_triple(graph: Graph) -> None:
    num_entities, num_relations, triples = graph
    possible = list(product(range(num_entities), range(num_relations), range(num_entities)))
    answers = build(graph).contains(as_array(possible))
    assert answers.tolist() == [triple in set(triples) for triple in possible]


@patient
@given(graphs())
def test_known_ids_of_every_pair_are_sorted_and_complete(graph: Graph) -> None:
    num_entities, num_relations, triples = graph
    known = set(triples)
    index = build(graph)
    for e, r in product(range(num_entities), range(num_relations)):
        assert index.known_tails(e, r).tolist() == sorted(
            t for h, q, t in known if (h, q) == (e, r)
        )
        assert index.known_heads(r, e).tolist() == sorted(
            h for h, q, t in known if (q, t) == (r, e)
        )
    for e, f in product(range(num_entities), repeat=2):
        assert index.known_relations(e, f).tolist() == sorted(
            r for h, r, t in known if (h, t) == (e, f)
        )


@patient
@given(graphs())
def test_repetitions_count_once_and_triples_come_sorted(graph: Graph) -> None:
    triples = graph[2]
    index = build(graph)
    assert len(index) == len(set(triples))
    assert [tuple(row) for row in index.triples.tolist()] == sorted(set(triples))


def test_triples_of_the_index_cannot_be_changed() -> None:
    index = build((3, 1, [(0, 0, 1)]))
    index.triples[0, 0] = 2  # of the caller's own copy
    assert index.triples.tolist() == [[0, 0, 1]]


def test_an_index_without_triples_knows_nothing() -> None:
    index = build((3, 2, []))
    assert len(index) == 0
    assert index.contains(as_array([(0, 0, 0), (2, 1, 2)])).tolist() == [False, False]
    assert index.contains(as_array([])).tolist() == []
    assert index.known_tails(0, 0).tolist() == []


def test_largest_ids_of_the_largest_id_space_are_found() -> None:
    last = 2**32 - 1
    index = FilterIndex(
        as_array([(last, last, last), (0, last, 0), (last, 0, 0)]),
        num_entities=2**32,
        num_relations=2**32,
    )
    asked = as_array([(last, last, last), (last, last, 0), (0, last, 0), (last, 0, last)])
    assert index.contains(asked).tolist() == [True, False, True, False]
    assert index.known_tails(last, last).tolist() == [last]
    assert index.known_heads(last, 0).tolist() == [0]
    assert index.known_relations(last, 0).tolist() == [0]


@pytest.mark.parametrize("bad", [-1, 7, 2**32, -(2**63)])
@pytest.mark.parametrize(("column", "slot"), [(0, "head"), (2, "tail")])
def test_an_entity_id_out_of_range_is_named(column: int, slot: str, bad: int) -> None:
    triples = as_array([(0, 0, 1), (6, 2, 6), (1, 1, 1)])
    triples[2, column] = bad
    index = build((7, 3, [(0, 0, 1)]))
    for refused in (
        lambda: FilterIndex(triples, num_entities=7, num_relations=3),
        lambda: index.contains(triples),
    ):
        with pytest.raises(IdOutOfRange) as caught:
            refused()
        assert caught.value.reason == "ENTITY_ID_OUT_OF_RANGE"
        assert caught.value.metadata == {
            "row": "2",
            "slot": slot,
            "value": str(bad),
            "limit": "7",
        }
        assert f"{slot} id {bad} of row 2 is out of range" in str(caught.value)
        assert "ids 0 to 6" in str(caught.value)


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_relation_id_out_of_range_is_named(bad: int) -> None:
    with pytest.raises(IdOutOfRange) as caught:
        FilterIndex(as_array([(6, 2, 6), (0, bad, 0)]), num_entities=7, num_relations=3)
    assert caught.value.reason == "RELATION_ID_OUT_OF_RANGE"
    assert caught.value.metadata == {
        "row": "1",
        "slot": "relation",
        "value": str(bad),
        "limit": "3",
    }
    assert "3 relations" in str(caught.value)


def test_of_several_bad_ids_the_first_row_of_the_first_slot_is_named() -> None:
    triples = as_array([(0, 0, 9), (0, 9, 0), (8, 0, 0), (9, 0, 0)])
    with pytest.raises(IdOutOfRange) as caught:
        FilterIndex(triples, num_entities=3, num_relations=3)
    assert caught.value.metadata["slot"] == "head"
    assert caught.value.metadata["row"] == "2"
    assert caught.value.metadata["value"] == "8"


def test_memory_is_reported_and_grows_with_the_directions_used() -> None:
    index = build((5, 2, [(0, 0, 1), (1, 1, 2)]))
    before = index.nbytes
    assert before == 2 * 3  # columns of one byte each
    index.known_tails(0, 0)
    after_one = index.nbytes
    assert after_one > before
    index.known_tails(1, 1)
    assert index.nbytes == after_one
    index.known_heads(0, 0)
    assert index.nbytes > after_one


def test_threads_that_ask_at_once_share_one_direction() -> None:
    index = build((50, 3, [(i, i % 3, (i * 7) % 50) for i in range(50)]))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: index.by_slot("head"), range(32)))
    assert all(each is found[0] for each in found)


def test_asking_for_a_pair_outside_the_id_space_is_refused() -> None:
    index = FilterIndex(np.array([[1, 0, 2]]), num_entities=3, num_relations=1)
    for ask in (
        lambda: index.known_tails(0, 2**32),
        lambda: index.known_tails(-1, 0),
        lambda: index.known_heads(1, 0),
        lambda: index.known_relations(0, 3),
    ):
        with pytest.raises(IdOutOfRange):
            ask()


def test_answers_can_not_change_the_index() -> None:
    index = FilterIndex(np.array([[1, 0, 2]]), num_entities=3, num_relations=1)
    with pytest.raises(ValueError, match="read-only"):
        index.known_tails(1, 0)[0] = 0
    assert index.contains(np.array([[1, 0, 2]])).all()


def test_the_direction_of_other_splits_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = TriplesFactory.world()
    graph.keep_tables_in(Tables(2**30))
    built: list[str] = []
    build = FilterIndex._build
    monkeypatch.setattr(
        FilterIndex, "_build", lambda index, slot: built.append(slot) or build(index, slot)
    )
    pairs = graph.mapped_triples[:5]
    for _ in range(3):
        graph.known(pairs[:, :2], "tail", ("training", "testing"))
        graph.known(pairs[:, 1:], "head", ("training", "testing"))
        graph.filter_index(("training", "testing")).known_heads(0, 0)
    assert sorted(built) == ["head", "tail"]
