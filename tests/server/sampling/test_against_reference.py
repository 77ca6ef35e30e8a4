"""Negatives equal the slow reference, id by id, over every kind of configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from negserve_server.errors import PositionOutOfRange
from negserve_server.graph import TriplesFactory
from negserve_server.sampling import KINDS, SLOTS, SPLITS, CorruptedBatch
from tests.server.sampling.reference import Corrupted, Reference, Triple, nth_legal

LAST_64 = 2**64 - 1


@dataclass
class Case:
    """A graph, a sampler's options, and a batch."""

    splits: dict[str, list[Triple]]
    num_entities: int
    num_relations: int
    options: dict[str, Any]
    positives: list[Triple]
    position: int


def some_of(values: tuple[str, ...], *, at_least: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Any subset, in any order."""
    subsets = chain.from_iterable(
        combinations(values, size) for size in range(at_least, len(values) + 1)
    )
    return st.sampled_from(list(subsets)).flatmap(st.permutations).map(tuple)


words64 = st.one_of(
    st.integers(0, 20),
    st.integers(2**32 - 3, 2**32 + 3),
    st.integers(LAST_64 - 20, LAST_64),
    st.integers(0, LAST_64),
)


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    """Small graphs in which whole rows of values are known, so that slots are saturated."""
    num_entities, num_relations = draw(st.integers(2, 12)), draw(st.integers(1, 4))
    entities, relations = st.integers(0, num_entities - 1), st.integers(0, num_relations - 1)
    triple = st.tuples(entities, relations, entities)
    known = draw(st.lists(triple, min_size=1, max_size=30))
    # (h, r, *), (*, r, t), (h, *, t) and (*, r, *) all known, sometimes all but one.
    for h, r, t in draw(st.lists(triple, max_size=4)):
        row, gap = draw(st.sampled_from((*SLOTS, "both"))), draw(st.integers(0, 40))
        if row == "tail":
            known += [(h, r, value) for value in range(num_entities) if value != gap]
        elif row == "head":
            known += [(value, r, t) for value in range(num_entities) if value != gap]
        elif row == "relation":
            known += [(h, value, t) for value in range(num_relations) if value != gap]
        else:
            pairs = [(a, r, b) for a in range(num_entities) for b in range(num_entities)]
            known += pairs[:gap] + pairs[gap + 1 :]
    # A row that is divided among splits is saturated only where the filter covers them all.
    homes = draw(st.sampled_from([["training"], ["training", "validation", "testing"]]))
    in_split = [homes[draw(st.integers(0, len(homes) - 1))] for _ in range(5)]
    splits: dict[str, list[Triple]] = {name: [] for name in SPLITS}
    for i, each in enumerate(known):
        splits[in_split[i % 5]].append(each)
    splits["training"] = splits["training"] or known[:1]

    slots: tuple[str, ...] = ("head", "tail")
    if kind == "basic" and num_relations > 1:
        slots = SLOTS
    options = {
        "kind": kind,
        "corruption_scheme": draw(some_of(slots, at_least=1)),
        "filter_splits": draw(some_of(SPLITS, at_least=0)),
        "num_negs_per_pos": draw(st.integers(1, 40)),
        "seed": draw(words64),
    }
    # Known triples make slots saturated, others originals that are legal themselves.
    positives = draw(st.lists(st.one_of(st.sampled_from(known), triple), max_size=6))
    position = min(draw(words64), 2**64 - len(positives))
    return Case(splits, num_entities, num_relations, options, positives, position)


def both(case: Case) -> tuple[CorruptedBatch, Corrupted]:
    """What the sampler and what the reference say."""
    factory = TriplesFactory(
        {name: np.array(rows, dtype=np.int64).reshape(-1, 3) for name, rows in case.splits.items()},
        num_entities=case.num_entities,
        num_relations=case.num_relations,
    )
    sampler = factory.open_sampler(**case.options)
    positives = np.array(case.positives, dtype=np.int64).reshape(-1, 3)
    filter_splits = case.options.get("filter_splits", ())
    reference = Reference(
        kind=case.options["kind"],
        scheme=case.options.get("corruption_scheme", ("head", "tail")),
        num_negs_per_pos=case.options["num_negs_per_pos"],
        seed=case.options["seed"],
        training=case.splits["training"],
        known=[t for name in filter_splits for t in case.splits[name]] if filter_splits else None,
        num_entities=case.num_entities,
        num_relations=case.num_relations,
    )
    return sampler.sample(positives, case.position), reference.sample(case.positives, case.position)


def assert_equal(made: CorruptedBatch, expected: Corrupted) -> None:
    """Compare every field."""
    assert made.head_counts.tolist() == expected.head_counts
    assert made.relation_counts.tolist() == expected.relation_counts
    assert made.replaced.tolist() == expected.replaced
    assert (None if made.mask is None else made.mask.tolist()) == expected.mask
    assert made.num_saturated == expected.num_saturated


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_negatives_equal_the_reference(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(kind))
    made, expected = both(case)
    event(f"saturated: {expected.num_saturated > 0}")
    assert made.position == case.position
    assert_equal(made, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filter_splits", [(), ("training",)])
def test_saturated_slots_fall_to_another_and_then_to_any_id(
    kind: str, filter_splits: tuple[str, ...]
) -> None:
    full = [(h, 0, t) for h in range(4) for t in range(4)]
    row = [(0, 1, t) for t in range(4)] + [(1, 1, 3)]
    column = [(h, 2, 3) for h in range(4)] + [(1, 2, 1)]
    case = Case(
        splits={"training": full + row + column},
        num_entities=4,
        num_relations=4,
        options={
            "kind": kind, "num_negs_per_pos": 9, "seed": 3, "filter_splits": filter_splits
        },
        positives=[(1, 0, 2), (0, 1, 2), (2, 2, 3), (0, 3, 1)],
        position=0,
    )  # fmt: skip
    made, expected = both(case)
    assert_equal(made, expected)
    if filter_splits:
        assert made.mask is not None
        assert np.all(made.mask, axis=1).tolist()[:3] == [False, True, True]
        assert made.head_counts.tolist()[1:3] == [9, 0]


@pytest.mark.parametrize("num_entities", [2**31 + 12345, 3 * 2**30, 2**32 - 5, 2**32])
@pytest.mark.parametrize("filter_splits", [(), ("training",)])
def test_ids_of_the_largest_spaces_equal_the_reference(
    num_entities: int, filter_splits: tuple[str, ...]
) -> None:
    last = num_entities - 1
    hub = [(0, 0, t) for t in (0, 1, 5, 2**31 - 1, 2**31, last - 1, last)]
    spread = [(last, 1, t * 50_000_017) for t in range(40)]
    case = Case(
        splits={"training": [*hub, *spread, (last, 0, last), (7, 1, last)]},
        num_entities=num_entities,
        num_relations=3,
        options={
            "kind": "basic", "num_negs_per_pos": 40, "seed": LAST_64, "filter_splits": filter_splits
        },
        positives=[*hub, *spread[:4], (last, 0, last), (last, 2, 0), (0, 2, last)],
        position=LAST_64 - 30,
    )  # fmt: skip
    made, expected = both(case)
    assert made.replaced.dtype == np.uint32
    assert_equal(made, expected)
    # A draw is rejected as often as a word falls into the incomplete interval.
    share = (2**32 % (num_entities - 1)) / 2**32
    if share > 0.1:
        assert expected.num_redraws > 0
        num_draws = made.replaced.size
        spread_of_count = math.sqrt(num_draws * share * (1 - share))
        assert abs(expected.num_redraws - num_draws * share) < 6 * spread_of_count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [23, 24, 25, 127, 128, 129, 300])
def test_long_lists_of_known_values_equal_the_reference(kind: str, length: int) -> None:
    num_entities = 400
    scattered = [(3, 0, value * 7 % num_entities) for value in range(length)]
    run = [(4, 0, 50 + value) for value in range(length)]
    at_the_ends = [(5, 0, (value - length // 2) % num_entities) for value in range(length)]
    heads = [(value * 11 % num_entities, 1, 6) for value in range(length)]
    others = [(9, 0, value) for value in range(0, num_entities, 3)]
    known = scattered + run + at_the_ends + heads
    case = Case(
        splits={"training": known[::2] + others, "validation": known[1::2], "testing": []},
        num_entities=num_entities,
        num_relations=2,
        options={
            "kind": kind,
            "num_negs_per_pos": 40,
            "seed": 1,
            "filter_splits": ("training", "validation"),
        },
        positives=[*scattered[:2], *run[:2], *at_the_ends[:2], *heads[:2], (3, 0, 399), (4, 0, 0)],
        position=77,
    )
    assert_equal(*both(case))


def test_every_relation_can_be_replaced_in_a_wide_relation_space() -> None:
    case = Case(
        splits={"training": [(0, r, 1) for r in range(0, 70_000, 2)]},
        num_entities=2,
        num_relations=70_000,
        options={
            "kind": "basic",
            "corruption_scheme": ("relation",),
            "num_negs_per_pos": 40,
            "seed": 1,
            "filter_splits": ("training",),
        },
        positives=[(0, 4, 1), (1, 69_999, 0)],
        position=0,
    )
    made, expected = both(case)
    assert made.replaced.dtype == np.uint32
    assert (made.replaced[0] % 2 == 1).all()
    assert_equal(made, expected)


@pytest.mark.parametrize(
    ("num_entities", "dtype"),
    [(256, np.uint8), (257, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)],
)
def test_ids_come_in_the_narrowest_dtype_that_holds_them(
    num_entities: int, dtype: type[np.unsignedinteger]
) -> None:
    case = Case(
        splits={"training": [(0, 0, num_entities - 1)]},
        num_entities=num_entities,
        num_relations=1,
        options={"kind": "basic", "num_negs_per_pos": 40, "seed": 0},
        positives=[(0, 0, num_entities - 1)] * 20,
        position=0,
    )
    made, expected = both(case)
    assert made.replaced.dtype == dtype
    assert_equal(made, expected)


def test_the_last_position_is_served_and_the_one_behind_it_refused() -> None:
    sampler = TriplesFactory({"training": [(0, 0, 1)]}).open_sampler(num_negs_per_pos=3)
    positives = [(0, 0, 1), (0, 0, 1)]
    assert sampler.sample(positives, 2**64 - 2).replaced.shape == (2, 3)
    for position in (2**64 - 1, 2**64, -1):
        with pytest.raises(PositionOutOfRange) as caught:
            sampler.sample(positives, position)
        assert caught.value.metadata == {"value": str(position), "limit": str(LAST_64)}


@given(st.integers(1, 60), st.data())
def test_reference_steps_over_excluded_ids_as_listing_would(size: int, data: st.DataObject) -> None:
    excluded = data.draw(st.sets(st.integers(0, 2000), max_size=size))
    listed = [value for value in range(2001) if value not in excluded]
    n = data.draw(st.integers(0, len(listed) - 1))
    assert nth_legal(range(2001), excluded, n) == listed[n]
