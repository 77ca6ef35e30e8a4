"""Properties that the reference must have, whatever the page says about single steps."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.server.sampling.reference import Cell, Corrupted, Reference, Triple
from tests.support.programs.examples import examples

# Eight entities; relation 0 is one-to-many, relation 1 many-to-one, relation 2 is rare.
TRAINING: list[Triple] = [
    *((0, 0, tail) for tail in range(1, 7)),
    *((head, 1, 7) for head in range(5)),
    (3, 1, 0),
    (2, 2, 2),
]
CONSTRAINTS = {"head": {0: {0, 1, 3}, 1: {2, 3, 4, 5}}, "tail": {0: {2, 4, 6}, 2: {1, 2, 3}}}
MIXTURE = {"kind": "mixture", "mixture": (("bernoulli", 3), ("typed", 1), ("degree", 2))}
#: A p value that a right implementation meets once in a million times.
RARE = 1e-6


def reference(**options: Any) -> Reference:
    return Reference(
        training=TRAINING,
        type_constraints=CONSTRAINTS,
        num_entities=8,
        num_relations=3,
        **options,
    )


def drawn(made: Corrupted, row: int) -> list[tuple[str, int]]:
    """Slot and value of each negative of a positive."""
    heads, relations = made.head_counts[row], made.relation_counts[row]
    values = made.replaced[row]
    slots = ["head"] * heads + ["relation"] * relations
    slots += ["tail"] * (len(values) - len(slots))
    return list(zip(slots, values, strict=True))


@given(
    weights=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    known=st.sets(st.integers(0, 14)),
    single=st.booleans(),
)
def test_draws_map_one_to_one_onto_the_legal_units(
    weights: list[int], known: set[int], single: bool
) -> None:
    ids = list(range(1, 1 + len(weights)))
    cell = Cell(0, ids, None if single else weights)
    units = {value: 1 if single else weights[value - 1] for value in ids if value not in known}
    excluded = cell.excluded_units(known)
    made = [cell.value(u, excluded) for u in range(sum(units.values()))]
    assert Counter(made) == units
    # Nearly every draw is its own answer: only draws that hit an excluded unit are not.
    for u, value in enumerate(made):
        assert value == cell.owner(u) or cell.owner(u) in known


@given(size=st.integers(1, 40), known=st.sets(st.integers(0, 45)), lists=st.booleans())
def test_the_ith_excluded_draw_goes_to_the_ith_legal_unit_from_m_on(
    size: int, known: set[int], lists: bool
) -> None:
    ids = list(range(size)) if lists else range(size)
    cell = Cell(0, ids)
    legal = [value for value in ids if value not in known]
    hit = [u for u in range(len(legal)) if u in known]
    beyond = [value for value in legal if value >= len(legal)]
    excluded = cell.excluded_units(known)
    for u in range(len(legal)):
        expected = beyond[hit.index(u)] if u in known else u
        assert cell.value(u, excluded) == expected


def test_a_range_is_ranked_without_being_listed() -> None:
    cell = Cell(0, range(2**32))
    excluded = cell.excluded_units([5, 2**32 - 1, 2**32 - 2, 2**40])
    assert [list(units) for units in excluded] == [[5], [2**32 - 2], [2**32 - 1]]
    assert cell.value(5, excluded) == 2**32 - 3
    assert cell.value(2**32 - 4, excluded) == 2**32 - 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "bernoulli"},
        {"kind": "pseudotyped"},
        {"kind": "typed"},
        {"kind": "typed", "candidates": (0, 1, 2, 3, 4)},
        {"kind": "degree"},
        {"kind": "degree", "alpha": 0.0, "corruption_scheme": ("head", "relation", "tail")},
        MIXTURE,
        {"candidates": (1, 2, 3)},
        {"kind": "degree", "chunk_size": 2},
    ],
)
@pytest.mark.parametrize("known", [None, TRAINING[3:-1]])
def test_log_q_is_the_logarithm_of_a_distribution_that_the_draws_follow(
    options: dict[str, Any], known: list[Triple] | None
) -> None:
    mode = "mask" if options.get("chunk_size", 1) > 1 and known else "exact"
    k = 60
    sampler = reference(
        num_negs_per_pos=k, seed=5, log_q=True, known=known, filter_mode=mode, **options
    )
    for positive in ((0, 0, 3), (4, 1, 5), (2, 2, 1)):
        counts: Counter[tuple[str, int]] = Counter()
        q: dict[tuple[str, int], float] = {}
        for position in range(0, 240, 2):
            made = sampler.sample([positive], position)
            assert made.log_q is not None
            assert made.num_saturated == 0
            for each, log in zip(drawn(made, 0), made.log_q[0], strict=True):
                counts[each] += 1
                assert q.setdefault(each, math.exp(log)) == math.exp(log)
        assert math.isclose(sum(q.values()), 1, rel_tol=1e-12)
        expected = [q[each] * counts.total() for each in counts]
        assert len(counts) == 1 or chisquare(list(counts.values()), expected).pvalue > RARE


def test_distinct_draws_are_uniform_over_ordered_selections() -> None:
    sampler = reference(
        num_negs_per_pos=3, distinct=True, corruption_scheme=("head",), candidates=(0, 1, 3, 4, 6)
    )
    counts = Counter(
        tuple(sampler.sample([(3, 0, 1)], position).replaced[0]) for position in range(6000)
    )
    assert set(counts) == set(permutations((0, 1, 4, 6), 3))
    assert chisquare(list(counts.values())).pvalue > RARE


@settings(max_examples=examples(50))
@given(k=st.integers(1, 20), seed=st.integers(0, 2**64 - 1), size=st.integers(1, 8))
def test_distinct_values_are_distinct_and_exhaust_what_is_legal(
    k: int, seed: int, size: int
) -> None:
    sampler = reference(num_negs_per_pos=k, distinct=True, seed=seed, candidates=range(size))
    made = sampler.sample([(0, 0, 3)], 9)
    assert made.mask is not None
    housed = [each for each, valid in zip(drawn(made, 0), made.mask[0], strict=True) if valid]
    assert len(set(housed)) == len(housed)
    # The originals are 0 and 3.
    room = (size - 1) + (size - (size > 3))
    assert len(housed) == min(k, room)
    assert made.num_saturated == int(k > room)


def test_weights_are_right_up_to_one_unit_and_fill_nearly_all_units() -> None:
    sampler = reference(kind="degree", alpha=0.75)
    weights = sampler.degree_weights(0)
    frequency = {0: 7, 1: 1, 2: 2, 3: 2, 4: 1}
    total = sum(f**0.75 for f in frequency.values())
    assert set(weights) == set(frequency)
    assert 2**32 - 1 - 2 * len(weights) <= sum(weights.values()) <= 2**32 - 1
    for value, f in frequency.items():
        assert weights[value] == pytest.approx(f**0.75 / total * (2**32 - 6), abs=1)
    assert len(set(reference(kind="degree", alpha=0.0).degree_weights(0).values())) == 1
    assert set(reference(kind="degree", alpha=0.0).degree_weights(0)) == set(range(8))


def test_the_overflow_of_a_mixture_stays_in_its_slot_while_it_can() -> None:
    # Nothing is allowed as a tail of relation 2 but the original; as a head everything is.
    typed = Reference(
        training=TRAINING,
        type_constraints={"tail": {2: {2}}},
        num_entities=8,
        num_relations=3,
        kind="mixture",
        mixture=(("typed", 5), ("basic", 5)),
        num_negs_per_pos=90,
        log_q=True,
    )
    made = typed.sample([(2, 2, 2)], 0)
    # Typed: 8 of 9 shares for the head, 1 of 9 for the tail, which basic's tail takes over.
    assert made.head_counts[0] in (62, 63)
    assert made.num_saturated == 0
    assert made.log_q is not None
    assert math.exp(made.log_q[0][-1]) == pytest.approx((0.5 / 9 + 0.25) / 7)
    assert math.exp(made.log_q[0][0]) == pytest.approx((0.5 * 8 / 9 + 0.25) / 7)
