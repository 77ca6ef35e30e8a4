"""Negatives equal the slow reference, id by id, for every kind of configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve.types.config import SLOTS, SPLITS
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.kinds import KINDS, PART_KINDS
from negserve_server.errors import PositionOutOfRange
from negserve_server.graph import TriplesFactory, TypeConstraints
from negserve_server.sampling import Sampler
from negserve_server.sampling.weights import degree_weights
from tests.server.sampling.reference import Corrupted, Reference, Triple
from tests.support.programs.examples import examples

LAST_64 = 2**64 - 1
WITH_RELATIONS = {kind for kind in PART_KINDS if KINDS[kind].takes_relations}


@dataclass
class Case:
    """A graph, a sampler's options, and a batch.

    :ivar constraints: allowed entities per slot and relation; None for a graph without any
    """

    splits: dict[str, list[Triple]]
    num_entities: int
    num_relations: int
    options: dict[str, Any]
    positives: list[Triple]
    position: int = 0
    constraints: dict[str, dict[int, set[int]]] | None = None

    def factory(self) -> TriplesFactory:
        """The graph, loaded."""
        constraints = None
        if self.constraints is not None:
            heads, tails = (
                _array([(r, e) for r, allowed in by_relation.items() for e in allowed], 2)
                for by_relation in (self.constraints["head"], self.constraints["tail"])
            )
            constraints = TypeConstraints(heads=heads, tails=tails)
        return TriplesFactory(
            {name: _array(rows, 3) for name, rows in self.splits.items()},
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            type_constraints=constraints,
        )

    def sampler(self) -> Sampler:
        """The sampler under test."""
        return self.factory().open_sampler(**self.options)

    def reference(self) -> Reference:
        """The slow reference."""
        options = dict(self.options)
        filter_splits = options.pop("filter_splits", ())
        return Reference(
            training=self.splits["training"],
            known=[t for s in filter_splits for t in self.splits[s]] if filter_splits else None,
            type_constraints=self.constraints,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            **options,
        )


def _array(rows: Sequence[tuple[int, ...]], columns: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, columns)


def run(sampler: Sampler, positives: Sequence[Triple], position: int) -> CorruptedBatch:
    """Sample a list of positives."""
    return sampler.sample(_array(positives, 3), position)


def both(case: Case) -> tuple[CorruptedBatch, Corrupted]:
    """The batch of the sampler, and that of the reference."""
    made = run(case.sampler(), case.positives, case.position)
    return made, case.reference().sample(case.positives, case.position)


def assert_equal(made: CorruptedBatch, expected: Corrupted) -> None:
    """Compare every field."""
    assert made.position == expected.position
    assert made.chunk_size == expected.chunk_size
    assert made.head_counts.tolist() == expected.head_counts
    assert made.relation_counts.tolist() == expected.relation_counts
    assert made.replaced.tolist() == expected.replaced
    assert (None if made.mask is None else made.mask.tolist()) == expected.mask
    assert made.num_saturated == expected.num_saturated
    if expected.log_q is None:
        assert made.log_q is None
    else:
        assert made.log_q is not None
        assert made.log_q.dtype == np.float32
        k = made.replaced.shape[1]
        expected_log_q = np.array(expected.log_q, dtype=np.float64).reshape(-1, k)
        # Shapes too: nothing is broadcast.
        assert made.log_q.shape == expected_log_q.shape
        np.testing.assert_allclose(made.log_q, expected_log_q, rtol=1e-6, atol=1e-6)


def per_positive(batch: CorruptedBatch) -> list[tuple[Any, ...]]:
    """A batch's values for each positive, which must not depend on the rest of the batch."""
    first = batch.position // batch.chunk_size
    return [
        (
            batch.replaced[(batch.position + i) // batch.chunk_size - first].tolist(),
            int(batch.head_counts[i]),
            int(batch.relation_counts[i]),
            None if batch.mask is None else batch.mask[i].tolist(),
            None if batch.log_q is None else batch.log_q[i].tobytes(),
        )
        for i in range(len(batch.head_counts))
    ]


def negatives_of(batch: CorruptedBatch, positives: Sequence[Triple]) -> list[list[Triple]]:
    """Whole triples: the k negatives of each positive."""
    result = []
    for triple, (values, heads, relations, _, _) in zip(
        positives, per_positive(batch), strict=True
    ):
        slots = [0] * heads + [1] * relations + [2] * (len(values) - heads - relations)
        result.append(
            [
                (*triple[:slot], value, *triple[slot + 1 :])
                for slot, value in zip(slots, values, strict=True)
            ]
        )
    return result  # type: ignore[return-value]


# --- Any small graph, any legal combination of options ---


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
def mixtures(draw: st.DrawFn) -> tuple[tuple[str, int], ...]:
    """Parts of a mixture, in any order; in half of the cases only kinds with the relation slot."""
    kinds = draw(some_of(draw(st.sampled_from((PART_KINDS, sorted(WITH_RELATIONS)))), at_least=1))
    shares = st.sampled_from((1, 1, 2, 3, 7, 65_535, 65_536))
    return tuple((kind, draw(shares)) for kind in kinds)


@st.composite
def option_sets(
    draw: st.DrawFn, kind: str, num_entities: int, num_relations: int
) -> dict[str, Any]:
    """Legal combinations of a kind's options."""
    options: dict[str, Any] = {"kind": kind, "seed": draw(words64)}
    parts: tuple[tuple[str, int], ...] = ((kind, 1),)
    if kind == "mixture":
        options["mixture"] = parts = draw(mixtures())
    kinds = {part for part, _ in parts}
    if "degree" in kinds:
        options["alpha"] = draw(
            st.one_of(st.sampled_from((0.0, 0.5, 0.75, 1.0, 4.0)), st.floats(0, 4))
        )
    if draw(st.booleans()):
        ids = st.integers(0, num_entities - 1)
        options["candidates"] = tuple(draw(st.lists(ids, min_size=1, max_size=8)))
    if kind in {"basic", "bernoulli", "degree"} and draw(st.booleans()):
        options["chunk_size"] = draw(st.one_of(st.integers(2, 4), st.sampled_from((16, 1000))))
    chunked = "chunk_size" in options

    schemes: list[tuple[str, ...]] = [("head",), ("tail",), ("head", "tail"), ("tail", "head")]
    if kinds <= WITH_RELATIONS and num_relations > 1:
        schemes += [("relation",)] * 2
        if not chunked:
            schemes += [("head", "relation"), ("tail", "relation"), ("tail", "relation", "head")]
    options["corruption_scheme"] = scheme = draw(st.sampled_from(schemes))

    mode = draw(st.sampled_from(("none", "mask") if chunked else ("none", "exact", "mask")))
    if mode != "none":
        options["filter_splits"] = draw(some_of(SPLITS, at_least=1))
        options["filter_mode"] = mode
    if kind not in {"degree", "mixture"} and draw(st.booleans()):
        options["distinct"] = True
    else:
        options["log_q"] = draw(st.booleans())

    most = 40
    if chunked and options.get("distinct"):
        most = len(set(options.get("candidates", range(num_entities))))
        most = num_relations if scheme == ("relation",) else most
    options["num_negs_per_pos"] = draw(
        st.one_of(st.integers(1, most), st.integers(1, min(6, most)))
    )
    return options


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

    options = draw(option_sets(kind, num_entities, num_relations))
    if "alpha" in options and "candidates" in options:
        # Candidates that all weigh nothing in a slot are refused.
        options["candidates"] += (splits["training"][0][0], splits["training"][0][2])

    constraints = None
    if "typed" in (kind, *dict(options.get("mixture", ()))) or draw(st.booleans()):
        # Some relations free, some with few allowed ids, which need not be seen ones.
        allowed = st.dictionaries(relations, st.sets(entities, min_size=1, max_size=6), max_size=4)
        constraints = {"head": draw(allowed), "tail": draw(allowed)}
        if not any(constraints.values()):
            constraints["tail"] = {0: {0}}

    # Known triples make slots saturated, others originals that are legal themselves.
    positives = draw(st.lists(st.one_of(st.sampled_from(known), triple), max_size=6))
    position = min(draw(words64), 2**64 - len(positives))
    return Case(splits, num_entities, num_relations, options, positives, position, constraints)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(160), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_negatives_equal_the_reference(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(kind))
    made, expected = both(case)
    event(f"saturated: {expected.num_saturated > 0}")
    event(f"chunks: {expected.chunk_size > 1}")
    event(f"filter: {case.options.get('filter_mode')}")
    event(f"distinct: {case.options.get('distinct', False)}")
    assert_equal(made, expected)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_negatives_of_a_positive_depend_on_its_position_only(
    kind: str, data: st.DataObject
) -> None:
    case = data.draw(cases(kind))
    sampler = case.sampler()
    whole = run(sampler, case.positives, case.position)
    for cut in range(len(case.positives) + 1):
        first = run(sampler, case.positives[:cut], case.position)
        # A batch may be empty, but its position is one of the stream.
        second = run(sampler, case.positives[cut:], min(case.position + cut, LAST_64))
        assert per_positive(first) + per_positive(second) == per_positive(whole)
        assert first.num_saturated + second.num_saturated == whole.num_saturated


# --- Saturation ---

# Four entities. Relation 0 is full; of (0, 1, *) and (*, 2, 3) all is known; relation 3 is empty.
FULL: list[Triple] = [
    *((h, 0, t) for h in range(4) for t in range(4)),
    *((0, 1, t) for t in range(4)),
    (1, 1, 3),
    *((h, 2, 3) for h in range(4)),
    (1, 2, 1),
]
FULL_CONSTRAINTS = {"head": {1: {0, 1}, 2: {0, 1, 2, 3}}, "tail": {1: {0, 1, 2, 3}, 2: {1, 3}}}
OPTIONS_OF_KIND: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in PART_KINDS},
    "mixture": {"kind": "mixture", "mixture": (("bernoulli", 1), ("typed", 2), ("degree", 1))},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filter_mode", [None, "exact", "mask"])
def test_saturated_slots_fall_to_another_and_then_to_any_id(
    kind: str, filter_mode: str | None
) -> None:
    case = Case(
        splits={"training": FULL},
        num_entities=4,
        num_relations=4,
        options={**OPTIONS_OF_KIND[kind], "num_negs_per_pos": 9, "seed": 3, "log_q": True},
        positives=[(1, 0, 2), (0, 1, 2), (2, 2, 3), (0, 3, 1)],
        constraints=FULL_CONSTRAINTS,
    )
    if filter_mode:
        case.options |= {"filter_splits": ("training",), "filter_mode": filter_mode}
    made, expected = both(case)
    assert_equal(made, expected)
    if filter_mode == "exact":
        assert made.mask is not None
        assert np.all(made.mask, axis=1).tolist()[:3] == [False, True, True]
        # Nothing is legal: all replace the tail. Else those of the saturated slot move.
        assert made.head_counts.tolist()[:3] == [0, 9, 0]
        assert not np.any(made.replaced[0] == 2), "any id but the original"


@pytest.mark.parametrize("filter_mode", [None, "exact", "mask"])
@pytest.mark.parametrize("kind", ["basic", "bernoulli", "pseudotyped", "typed"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7, 9, 40])
def test_distinct_values_overflow_into_the_room_of_other_slots(
    kind: str, filter_mode: str | None, k: int
) -> None:
    case = Case(
        splits={"training": FULL},
        num_entities=4,
        num_relations=4,
        options={"kind": kind, "num_negs_per_pos": k, "seed": 5, "distinct": True},
        positives=[(1, 0, 2), (0, 1, 2), (2, 2, 3), (0, 3, 1), (1, 1, 3), (1, 2, 1)],
        position=99,
        constraints=FULL_CONSTRAINTS,
    )
    if filter_mode:
        case.options |= {"filter_splits": ("training",), "filter_mode": filter_mode}
    assert_equal(*both(case))


def test_distinct_negatives_fill_rooms_in_order_and_the_rest_is_masked() -> None:
    # Heads 1 and 2 are legal, relations 2 and 3, and tails 5 and 6; the rest is known or original.
    known = [
        (0, 1, 0),
        *((h, 1, 0) for h in range(3, 8)),
        *((0, r, 0) for r in range(2)),
        *((0, 1, t) for t in range(8) if t not in (5, 6)),
    ]
    options = {
        "corruption_scheme": ("head", "relation", "tail"), "filter_splits": ("training",),
        "distinct": True, "num_negs_per_pos": 11,
    }  # fmt: skip
    case = Case({"training": known}, 8, 4, options, [(0, 1, 0)] * 3)
    made, expected = both(case)
    assert_equal(made, expected)
    assert made.head_counts.tolist() == [2, 2, 2]
    assert made.relation_counts.tolist() == [2, 2, 2]
    assert made.num_saturated == 3
    assert made.mask is not None
    for values, valid in zip(made.replaced.tolist(), made.mask.tolist(), strict=True):
        assert set(values[:2]) == {1, 2}
        assert set(values[2:4]) == {2, 3}
        assert set(values[4:6]) == {5, 6}
        assert 0 not in values[6:]
        assert valid == [True] * 6 + [False] * 5

    # With room for all, what exceeds the tails passes the full heads and goes to the relations.
    wide = replace(case, num_relations=30, options={**options, "num_negs_per_pos": 24})
    made, expected = both(wide)
    assert_equal(made, expected)
    assert made.head_counts.tolist() == [2, 2, 2]
    assert made.relation_counts.tolist() == [20, 20, 20]
    assert made.num_saturated == 0


@pytest.mark.parametrize("filter_mode", ["exact", "mask"])
def test_distinct_negatives_are_all_of_the_legal_values_when_there_are_as_many(
    filter_mode: str,
) -> None:
    num_entities, known = 700, [(3, 0, value * 7 % 700) for value in range(300)]
    options = {
        "corruption_scheme": ("tail",), "filter_splits": ("training",), "filter_mode": filter_mode,
        "distinct": True,
    }  # fmt: skip
    positives = [known[0], known[17], (3, 0, 699)]
    tails = set(range(num_entities))
    if filter_mode == "exact":
        tails -= {t for _, _, t in known}
    for k in (399, 400, 401, 698, 699, 700):
        case = Case(
            {"training": known}, num_entities, 1, {**options, "num_negs_per_pos": k}, positives
        )
        made, expected = both(case)
        assert_equal(made, expected)
        assert made.mask is not None
        for row, (_, _, original) in enumerate(positives):
            legal = tails - {original}
            values = made.replaced[row].tolist()
            assert len(set(values[: len(legal)])) == min(k, len(legal))
            assert set(values[: len(legal)]) <= legal
            if filter_mode == "exact":
                assert made.mask[row].sum() == min(k, len(legal))


@pytest.mark.parametrize("candidates", [(2,), (0, 2), (1, 2)])
@pytest.mark.parametrize("distinct", [False, True])
def test_excess_over_the_candidates_is_drawn_from_all_ids(
    candidates: tuple[int, ...], distinct: bool
) -> None:
    options = {"candidates": candidates, "distinct": distinct, "num_negs_per_pos": 30}
    case = Case({"training": [(0, 0, 1)]}, 300, 2, options, [(2, 0, 2), (0, 1, 2), (1, 1, 2)])
    made, expected = both(case)
    assert_equal(made, expected)
    if candidates == (2,):
        assert made.head_counts[0] == 0
        assert not np.any(made.replaced[0] == 2)
        assert made.replaced[0].max() > 2
        assert made.num_saturated == (3 if distinct else 1)


# --- Large id spaces, and draws that are rejected ---

LARGEST = [2**31 + 12345, 3 * 2**30, 2**32 - 5, 2**32]


@pytest.mark.parametrize("num_entities", LARGEST)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"filter_splits": ("training",)},
        {"filter_splits": ("training",), "filter_mode": "mask", "kind": "bernoulli"},
        {"filter_splits": ("training",), "distinct": True},
        {"chunk_size": 4, "log_q": True},
        {"chunk_size": 4, "distinct": True},
        {"filter_splits": ("training",), "log_q": True, "kind": "bernoulli"},
        {
            "kind": "mixture",
            "mixture": (("pseudotyped", 1), ("basic", 65_536)),
            "filter_splits": ("training",),
            "log_q": True,
        },
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_ids_of_the_largest_spaces_equal_the_reference(
    num_entities: int, options: dict[str, Any]
) -> None:
    last = num_entities - 1
    hub = [(0, 0, t) for t in (0, 1, 5, 2**31 - 1, 2**31, last - 1, last)]
    spread = [(last, 1, t * 50_000_017) for t in range(40)]
    case = Case(
        splits={"training": [*hub, *spread, (last, 0, last), (7, 1, last)]},
        num_entities=num_entities,
        num_relations=3,
        options={"num_negs_per_pos": 40, "seed": LAST_64, **options},
        positives=[*hub, *spread[:4], (last, 0, last), (last, 2, 0), (0, 2, last)],
        position=LAST_64 - 30,
    )
    made, expected = both(case)
    assert made.replaced.dtype == np.uint32
    assert_equal(made, expected)
    # A draw is rejected as often as a word falls into the incomplete interval.
    share = (2**32 % (num_entities - 1)) / 2**32
    if share > 0.1 and options.get("kind") != "mixture":
        num_draws = made.replaced.size
        spread_of_count = math.sqrt(num_draws * share * (1 - share))
        assert expected.num_redraws > 0
        assert abs(expected.num_redraws - num_draws * share) < 6 * spread_of_count


@pytest.mark.parametrize("num_entities", [2**31 + 20, 2**32 // 3 + 20])
@pytest.mark.parametrize("options", [{}, {"filter_splits": ("training",)}, {"chunk_size": 2}])
def test_distinct_draws_are_rejected_by_what_is_left_of_the_range(
    num_entities: int, options: dict[str, Any]
) -> None:
    # Half or a third of all words, and less, are rejected until the range that shrinks with each
    # draw divides 2^32 nearly; hardly any after that.
    case = Case(
        {"training": [(1, 0, 2), (3, 0, 2)]},
        num_entities,
        2,
        {"distinct": True, "num_negs_per_pos": 40, "corruption_scheme": ("head",), **options},
        [(1, 0, 2)] * 20,
    )
    made, expected = both(case)
    assert_equal(made, expected)
    rows = len(made.replaced)
    assert 0.05 < expected.num_redraws / rows / 40 < 0.3


@pytest.mark.parametrize("num_entities", LARGEST)
@pytest.mark.parametrize("kind", ["basic", "pseudotyped"])
@pytest.mark.parametrize("filter_mode", ["exact", "mask"])
def test_candidates_of_the_largest_spaces_equal_the_reference(
    num_entities: int, kind: str, filter_mode: str
) -> None:
    last = num_entities - 1
    known = [(0, 0, last), (0, 0, 2**31), (last, 0, 0), (1, 0, 1)]
    options = {
        "kind": kind,
        "candidates": (last, 2**31, 2**31 - 1, 1, 0),
        "filter_splits": ("training",),
        "filter_mode": filter_mode,
        "num_negs_per_pos": 20,
    }
    case = Case({"training": known}, num_entities, 2, options, [*known, (2, 0, 3), (0, 1, last)])
    assert_equal(*both(case))


@pytest.mark.parametrize("num_entities", LARGEST)
def test_relations_without_constraints_allow_every_id_of_the_largest_spaces(
    num_entities: int,
) -> None:
    # Shares are in proportion to numbers of candidates of up to 33 bits.
    case = Case(
        splits={"training": [(0, 0, 1)]},
        num_entities=num_entities,
        num_relations=4,
        options={"kind": "typed", "num_negs_per_pos": 60, "log_q": True},
        positives=[(0, r, num_entities - 1) for r in range(4)],
        constraints={"head": {0: {1, 2}, 1: {0, 1}}, "tail": {0: {5}, 2: {7, num_entities - 1}}},
    )
    made, expected = both(case)
    assert_equal(made, expected)
    assert made.head_counts.tolist()[1:3] == [0, 60]


@pytest.mark.parametrize(
    ("original", "rejected"), [(0, 1 / 4), (1, 1 / 8), (2, 1 / 16), (4, 0)]
)  # fmt: skip
@pytest.mark.parametrize("filter_splits", [(), ("training",)])
def test_weighted_draws_without_a_heavy_original_are_drawn_again(
    original: int, rejected: float, filter_splits: tuple[str, ...]
) -> None:
    # Tails have 1/4, 1/8, 1/16, 1/16 and 1/2 of all units; M = U less those of the original, and
    # words in the incomplete interval, 2^32 mod M of 2^32, are rejected.
    training = [(h, 0, tail) for tail, f in enumerate((32, 16, 8, 8, 64)) for h in range(f)]
    options = {
        "kind": "degree", "alpha": 1.0, "corruption_scheme": ("tail",), "num_negs_per_pos": 50,
        "filter_splits": filter_splits, "log_q": True,
    }  # fmt: skip
    # Head 100 has no triples, so that nothing but the original is excluded.
    case = Case({"training": training}, 128, 1, options, [(100, 0, original)] * 30)
    made, expected = both(case)
    assert_equal(made, expected)
    spread_of_count = math.sqrt(1500 * rejected * (1 - rejected))
    assert abs(expected.num_redraws - 1500 * rejected) <= 6 * spread_of_count


# --- Long lists ---


@pytest.mark.parametrize("num_entities", [400, 5000, 70_000])
@pytest.mark.parametrize("length", [1, 16, 31, 32, 33, 64, 128, 300])
def test_long_lists_of_known_values_equal_the_reference(length: int, num_entities: int) -> None:
    scattered = [(3, 0, value * 7 % num_entities) for value in range(length)]
    run_of_ids = [(4, 0, 50 + value) for value in range(length)]
    at_the_ends = [(5, 0, (value - length // 2) % num_entities) for value in range(length)]
    heads = [(value * 11 % num_entities, 1, 6) for value in range(length)]
    # More candidates and frequencies than known ones; all of the upper half known, too.
    others = [(9, 0, value) for value in range(0, min(num_entities, 3000), 3)]
    upper = [(8, 0, num_entities - 1 - value) for value in range(length)]
    known = scattered + run_of_ids + at_the_ends + heads + upper
    positives = [
        *scattered[:1], *run_of_ids[-1:], *at_the_ends[:1], *heads[-1:], *upper[-1:],
        (3, 0, 399), (4, 0, 0), (399, 1, 6), (8, 0, 3),
    ]  # fmt: skip
    case = Case(
        splits={"training": known[::2] + others, "validation": known[1::2], "testing": []},
        num_entities=num_entities,
        num_relations=2,
        options={},
        positives=positives,
        position=77,
        constraints={
            "head": {1: set(range(0, num_entities, 20 + num_entities // 1000))},
            "tail": {0: {value * 7 % num_entities for value in range(2 * length)}},
        },
    )
    factory = case.factory()
    common = {"num_negs_per_pos": 30, "seed": 1, "filter_splits": ("training", "validation")}
    subset = tuple(range(0, num_entities, 2 + num_entities // 3000))
    for options in (
        *OPTIONS_OF_KIND.values(),
        {"distinct": True},
        {"kind": "pseudotyped", "distinct": True},
        {"candidates": subset},
        {"kind": "typed", "filter_mode": "mask", "log_q": True},
        {"kind": "degree", "filter_mode": "mask"},
    ):
        case.options = common | options
        made = run(factory.open_sampler(**case.options), positives, case.position)
        assert_equal(made, case.reference().sample(positives, case.position))


@pytest.mark.parametrize("num_legal", [0, 1, 2, 50])
@pytest.mark.parametrize("num_entities", [300, 1500])
def test_lists_that_leave_few_values_equal_the_reference(num_entities: int, num_legal: int) -> None:
    # The legal ones at the ends, in the middle, or anywhere; the original known or not.
    spread = [i * (num_entities - 1) // max(num_legal - 1, 1) for i in range(num_legal)]
    legal = {
        1: set(range(num_legal)),
        2: set(range(num_entities - num_legal, num_entities)),
        3: set(range(num_entities // 2, num_entities // 2 + num_legal)),
        4: set(spread),
    }
    known = [(h, 0, t) for h, out in legal.items() for t in range(num_entities) if t not in out]
    positives = [(h, 0, t) for h in legal for t in (0, num_entities // 2, num_entities - 1)]
    case = Case({"training": known}, num_entities, 2, {}, positives, 2**33)
    factory = case.factory()
    for options in ({}, {"kind": "pseudotyped"}, {"kind": "degree"}, {"distinct": True}):
        for scheme in (("tail",), ("head", "tail")):
            case.options = {
                "filter_splits": ("training",), "corruption_scheme": scheme,
                "num_negs_per_pos": 12, **options,
            }  # fmt: skip
            made = run(factory.open_sampler(**case.options), positives, case.position)
            assert_equal(made, case.reference().sample(positives, case.position))


@pytest.mark.parametrize("num_entities", [6, 200, 3000])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "basic"},
        {"kind": "bernoulli"},
        {"kind": "basic", "corruption_scheme": ("head", "relation", "tail")},
        {"kind": "basic", "corruption_scheme": ("tail",)},
        {"kind": "mixture", "mixture": (("basic", 2), ("bernoulli", 1))},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_one_negative_per_positive_equals_the_reference(
    options: dict[str, Any], filtered: bool, num_entities: int
) -> None:
    # Few different positives, known or not, many times: so that what is rare happens, the original
    # drawn, known values drawn, and pairs without a legal value. More than two blocks of 64.
    rng = np.random.default_rng(num_entities)
    hub = {t for t in range(num_entities) if num_entities < 1000 or t % 40}
    known = [(0, 0, t) for t in hub] + [(h, 1, 3) for h in hub if h % 3]
    known += [(1, r, 2) for r in range(3)] + [(h, 2, 2 * h) for h in range(3)]
    few = [(0, 0, 1), (0, 1, 3), (3, 1, 3), (4, 1, 0), (1, 2, 2), (5, 2, 5), (1, 0, 2), (2, 0, 5)]
    positives = [few[i] for i in rng.integers(0, len(few), 600)]
    case = Case(
        {"training": known[::2], "validation": known[1::2]}, num_entities, 3,
        {"num_negs_per_pos": 1, "seed": 8, **options}, positives, 2**32 - 300,
    )  # fmt: skip
    if filtered:
        case.options["filter_splits"] = ("training", "validation")
    made, expected = both(case)
    assert_equal(made, expected)
    if num_entities == 6:
        is_saturated = filtered and options.get("corruption_scheme") == ("tail",)
        assert (made.num_saturated > 0) == is_saturated
    assert_equal(*both(replace(case, positives=positives[:1])))


@pytest.mark.parametrize("known", [(0, 1, 2), (254, 255), (0, 255), tuple(range(128, 256)), ()])
def test_known_values_at_the_ends_of_the_id_space(known: tuple[int, ...]) -> None:
    training = [(7, 0, value) for value in known] + [(9, 1, 9)]
    for original in (0, 127, 128, 255):
        case = Case(
            {"training": training}, 256, 2,
            {"num_negs_per_pos": 100, "filter_splits": ("training",)}, [(7, 0, original)] * 3,
        )  # fmt: skip
        made, expected = both(case)
        assert_equal(made, expected)
        assert_equal(*both(replace(case, options={**case.options, "distinct": True})))


# --- Weights ---


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, math.pi, 4.0])
def test_weights_equal_the_reference_whatever_the_exponent(alpha: float) -> None:
    # Frequencies 1 to 60, several ids each, in an order that is not theirs.
    training = [
        (value * 37 % 120, 0, (value + 7 * i) % 120)
        for value in range(120)
        for i in range(1 + value % 60)
    ]
    options = {"kind": "degree", "alpha": alpha, "num_negs_per_pos": 60, "log_q": True}
    case = Case({"training": training}, 130, 2, options, [*training[:500:60], (125, 1, 126)])
    assert_equal(*both(case))
    assert_equal(*both(replace(case, options={**options, "filter_splits": ("training",)})))
    assert_equal(*both(replace(case, options={**options, "chunk_size": 3})))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3, 0.5, 0.75, 1.0, 2.7, 4.0])
@pytest.mark.parametrize(
    "frequencies",
    [[1], [2], [3] * 5, [2] * 17, [0, 5, 0, 5, 5], [1, 2, 3, 5, 0, 60, 7], [1000, 1, 2, 3]],
    ids=str,
)
def test_weights_are_equal_to_the_unit(frequencies: list[int], alpha: float) -> None:
    # One unit less, to which another order of roundings leads where the quotient is whole, shows
    # in negatives only where draws are rejected.
    training = [(h, 0, tail) for tail, f in enumerate(frequencies) for h in range(f)]
    case = Case({"training": training}, 1000, 1, {"kind": "degree", "alpha": alpha}, [])
    case.options["candidates"] = tuple(range(len(frequencies)))
    expected = case.reference().degree_weights(2)
    made = degree_weights(np.array(frequencies), alpha)
    assert made.tolist() == [expected.get(value, 0) for value in range(len(frequencies))]


def test_ids_of_equal_weight_are_ranked_by_id_even_if_their_frequencies_differ() -> None:
    # To the power 4, the hub leaves one unit each to ids that were seen three, two times and once.
    hub = [(h, 0, 1500) for h in range(1400)]
    few = [(h, 0, 100 + value) for value in range(300) for h in range(1 + value % 3)]
    options = {
        "kind": "degree", "alpha": 4.0, "corruption_scheme": ("tail",), "num_negs_per_pos": 200,
        "filter_splits": ("training",), "log_q": True,
    }  # fmt: skip
    case = Case({"training": hub + few}, 1600, 1, options, [(3, 0, 1500), (4, 0, 7), (1500, 0, 2)])
    weights = case.reference().degree_weights(2)
    assert {weights[value] for value in range(100, 400)} == {1}
    made, expected = both(case)
    assert_equal(made, expected)
    assert len(set(made.replaced[0].tolist())) > 100


@pytest.mark.parametrize("scheme", [("relation",), ("relation", "tail"), SLOTS])
@pytest.mark.parametrize("filter_mode", ["exact", "mask"])
def test_relations_are_drawn_by_their_frequency(scheme: tuple[str, ...], filter_mode: str) -> None:
    training = [(h, r, t) for r in range(6) for h in range(5) for t in range(1 + r)]
    options = {
        "kind": "degree", "alpha": 1.0, "corruption_scheme": scheme, "num_negs_per_pos": 50,
        "filter_splits": ("training",), "filter_mode": filter_mode, "log_q": True,
    }  # fmt: skip
    positives = [*training[::9], (7, 7, 7), (0, 6, 5)]
    case = Case({"training": training}, 8, 8, options, positives, 123)
    assert_equal(*both(case))


# --- Chunks ---

CHUNKED: list[dict[str, Any]] = [
    {},
    {"distinct": True},
    {"kind": "bernoulli", "filter_splits": ("training",), "filter_mode": "mask"},
    {"kind": "bernoulli", "distinct": True, "filter_splits": ("training",), "filter_mode": "mask"},
    {"kind": "degree", "log_q": True},
    {"corruption_scheme": ("relation",), "log_q": True},
    {"candidates": tuple(range(40, 70)), "log_q": True},
]


@pytest.mark.parametrize("options", CHUNKED, ids=lambda options: "-".join(map(str, options)))
@pytest.mark.parametrize("position", [0, 1, 6, 2**32 * 7 - 3, LAST_64 - 19])
def test_chunks_that_straddle_batches_equal_whole_ones(
    options: dict[str, Any], position: int
) -> None:
    training = [(h, h % 9, (h * h) % 100) for h in range(100)]
    training += [(5, 1, t) for t in range(0, 100, 3)] + [(h, 2, 6) for h in range(0, 100, 4)]
    case = Case(
        splits={"training": training},
        num_entities=100,
        num_relations=9,
        options={"num_negs_per_pos": 8, "chunk_size": 7, "seed": 11, **options},
        positives=training[:160:8],
        position=position,
    )
    sampler = case.sampler()
    whole = run(sampler, case.positives, position)
    assert_equal(whole, case.reference().sample(case.positives, position))
    rows = (position + 19) // 7 - position // 7 + 1
    assert whole.replaced.shape == (rows, 8)
    for cut in range(21):
        first = run(sampler, case.positives[:cut], position)
        second = run(sampler, case.positives[cut:], min(position + cut, LAST_64))
        assert per_positive(first) + per_positive(second) == per_positive(whole)
    singly = [run(sampler, [case.positives[i]], position + i) for i in range(20)]
    assert [each for batch in singly for each in per_positive(batch)] == per_positive(whole)


def test_a_chunk_has_the_values_of_one_position_whatever_its_positives() -> None:
    options = {"kind": "bernoulli", "num_negs_per_pos": 50, "chunk_size": 4}
    training = [(0, 0, t) for t in range(1, 60)] + [(h, 1, 0) for h in range(1, 60)]
    case = Case({"training": training}, 60, 2, options, training[40:80])
    made, expected = both(case)
    assert_equal(made, expected)
    other = run(case.sampler(), [(9, 0, 9)] * 40, 0)
    assert made.replaced.tolist() == other.replaced.tolist()
    # One-to-many and many-to-one relations divide the same values differently.
    assert made.head_counts.min() < 5
    assert made.head_counts.max() > 45


@pytest.mark.parametrize("k", [1, 59, 60])
@pytest.mark.parametrize("scheme", [("head", "tail"), ("tail",), ("relation",)])
def test_distinct_values_of_a_chunk_may_be_all_candidates(k: int, scheme: tuple[str, ...]) -> None:
    options = {
        "num_negs_per_pos": k, "chunk_size": 5, "distinct": True, "corruption_scheme": scheme
    }  # fmt: skip
    positives = [(h, h % 60, 59 - h) for h in range(20)]
    made, expected = both(Case({"training": [(0, 0, 1)]}, 60, 60, options, positives, 3))
    assert_equal(made, expected)
    assert all(len(set(row)) == k for row in made.replaced.tolist())
    assert made.num_saturated == 0


# --- Batches of many positives ---


@pytest.mark.parametrize("k", [1, 3, 130])
@pytest.mark.parametrize(
    "options",
    [
        *OPTIONS_OF_KIND.values(),
        {"kind": "basic", "corruption_scheme": SLOTS},
        {"kind": "basic", "distinct": True},
        {"kind": "pseudotyped", "distinct": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_batches_of_many_positives_equal_the_reference(k: int, options: dict[str, Any]) -> None:
    # More positives than kernels take at once; some saturated, some with long lists.
    rng = np.random.default_rng(3)
    rows = [tuple(row) for row in rng.integers(0, (90, 4, 90), size=(600, 3)).tolist()]
    rows += [(1, 0, t) for t in range(90)] + [(h, 1, 2) for h in range(89)]
    case = Case(
        {"training": rows},
        90,
        4,
        {**options, "num_negs_per_pos": k, "filter_splits": ("training",), "seed": 6},
        rows[:760:9] + rows[600:605],
        2**32 - 40,
        {"head": {1: set(range(3, 20))}, "tail": {0: set(range(0, 90, 2)), 2: {4, 5}}},
    )
    assert len(case.positives) > 80
    assert_equal(*both(case))
    for other in (
        {"filter_mode": "mask"},
        {"filter_mode": "mask", "distinct" if "distinct" in options else "log_q": True},
    ):
        assert_equal(*both(replace(case, options=case.options | other)))


# --- The mask is membership ---


@pytest.mark.parametrize("filter_splits", [("training",), ("validation", "testing"), SPLITS])
@pytest.mark.parametrize(
    ("kind", "chunk_size"),
    [*((kind, 1) for kind in KINDS), ("basic", 3), ("bernoulli", 3), ("degree", 3)],
)
def test_a_mask_flags_exactly_what_is_known(
    kind: str, filter_splits: tuple[str, ...], chunk_size: int
) -> None:
    rng = np.random.default_rng(4)
    rows = [tuple(row) for row in rng.integers(0, (12, 3, 12), size=(250, 3)).tolist()]
    splits = {"training": rows[:150], "validation": rows[150:200], "testing": rows[200:]}
    options = {
        **OPTIONS_OF_KIND[kind], "filter_splits": filter_splits, "filter_mode": "mask",
        "num_negs_per_pos": 30, "chunk_size": chunk_size,
    }  # fmt: skip
    case = Case(splits, 12, 3, options, rows[::6], 8, {"head": {0: {1, 2, 5}}, "tail": {}})
    made, expected = both(case)
    assert_equal(made, expected)
    known = {row for name in filter_splits for row in splits[name]}
    negatives = negatives_of(made, case.positives)
    assert made.mask is not None
    assert made.mask.tolist() == [
        [negative not in known and negative != positive for negative in row]
        for positive, row in zip(case.positives, negatives, strict=True)
    ]
    share = made.mask.mean()
    assert 0.05 < share < 0.95, "a mask that is always the same shows nothing"
    if chunk_size == 1:
        # The same draws as without a filter.
        plain = {name: value for name, value in options.items() if not name.startswith("filter")}
        unfiltered = run(replace(case, options=plain).sampler(), case.positives, 8)
        assert unfiltered.mask is None
        assert unfiltered.replaced.tolist() == made.replaced.tolist()


# --- What samplers of one graph share ---


def test_samplers_of_one_graph_share_nothing_in_which_they_differ() -> None:
    rng = np.random.default_rng(9)
    rows = [tuple(row) for row in rng.integers(0, (20, 3, 20), size=(200, 3)).tolist()]
    case = Case(
        {"training": rows[:150], "validation": rows[150:]},
        20,
        3,
        {},
        rows[::11],
        5,
        {"head": {0: {1, 2, 5}}, "tail": {1: {3, 4}}},
    )
    factory = case.factory()
    mixtures = [(("basic", 1), ("degree", 1)), (("degree", 1), ("basic", 1)), (("basic", 3),)]
    option_sets: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"chunk_size": 3},
        {"distinct": True},
        {"log_q": True},
        {"candidates": (1, 2, 3)},
        {"candidates": (4, 5, 6, 7)},
        {"corruption_scheme": ("tail",)},
        *({"kind": "degree", "alpha": alpha, "log_q": True} for alpha in (0.0, 0.5, 1.0)),
        *({"kind": "mixture", "mixture": mixture, "log_q": True} for mixture in mixtures),
        {"kind": "mixture", "mixture": mixtures[0], "alpha": 2.0},
        *({"kind": kind, "distinct": True} for kind in ("bernoulli", "pseudotyped", "typed")),
        {"filter_splits": ("training",)},
        {"filter_splits": ("validation",)},
        {"filter_splits": ("training",), "filter_mode": "mask"},
        {"filter_splits": ("training",), "filter_mode": "mask", "chunk_size": 2},
        {"kind": "degree", "filter_splits": ("training",)},
        {"kind": "degree", "filter_splits": ("training",), "filter_mode": "mask"},
    ]
    # Twice, so that what one leaves behind can reach every other.
    for options in option_sets * 2:
        case.options = {"num_negs_per_pos": 12, **options}
        made = run(factory.open_sampler(**case.options), case.positives, case.position)
        assert_equal(made, case.reference().sample(case.positives, case.position))


# --- Widths and limits ---


def test_every_relation_can_be_replaced_in_a_wide_relation_space() -> None:
    case = Case(
        splits={"training": [(0, r, 1) for r in range(0, 70_000, 14)]},
        num_entities=2,
        num_relations=70_000,
        options={
            "corruption_scheme": ("relation",),
            "num_negs_per_pos": 40,
            "seed": 1,
            "filter_splits": ("training",),
        },
        positives=[(0, 28, 1), (1, 69_999, 0)],
    )
    made, expected = both(case)
    assert made.replaced.dtype == np.uint32
    assert (made.replaced[0] % 14 != 0).all()
    assert_equal(made, expected)
    assert_equal(*both(replace(case, options={**case.options, "distinct": True})))


@pytest.mark.parametrize(
    ("num_entities", "dtype"),
    [(256, np.uint8), (257, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"distinct": True}, {"chunk_size": 2}, {"kind": "degree", "alpha": 0.0, "log_q": True}],
    ids=str,
)
def test_ids_come_in_the_narrowest_dtype_that_holds_them(
    num_entities: int, dtype: type[np.unsignedinteger], options: dict[str, Any]
) -> None:
    case = Case(
        splits={"training": [(0, 0, num_entities - 1)]},
        num_entities=num_entities,
        num_relations=1,
        options={"num_negs_per_pos": 40, **options},
        positives=[(0, 0, num_entities - 1)] * 20,
    )
    made, expected = both(case)
    assert made.replaced.dtype == dtype
    assert_equal(made, expected)


@pytest.mark.parametrize("distinct", [False, True])
def test_many_negatives_of_one_positive_equal_the_reference(distinct: bool) -> None:
    known = [(1, 0, t) for t in range(0, 3000, 2)]
    options = {
        "num_negs_per_pos": 3000, "filter_splits": ("training",), "distinct": distinct, "seed": 9
    }  # fmt: skip
    case = Case({"training": known}, 9000, 1, options, [(1, 0, 2), (1, 0, 2), (4, 0, 3)], 2**40)
    assert_equal(*both(case))


def test_the_last_position_is_served_and_the_one_behind_it_refused() -> None:
    for chunk_size in (1, 7):
        sampler = TriplesFactory({"training": [(0, 0, 1)]}).open_sampler(
            num_negs_per_pos=3, chunk_size=chunk_size
        )
        positives = [(0, 0, 1), (0, 0, 1)]
        assert sampler.sample(positives, 2**64 - 2).head_counts.shape == (2,)
        for position in (2**64 - 1, 2**64, -1):
            with pytest.raises(PositionOutOfRange) as caught:
                sampler.sample(positives, position)
            assert caught.value.metadata == {"value": str(position), "limit": str(LAST_64)}


@pytest.mark.parametrize("options", [{}, {"chunk_size": 5}, {"log_q": True}, {"distinct": True}])
def test_an_empty_batch_is_empty_in_every_field(options: dict[str, Any]) -> None:
    sampler = TriplesFactory({"training": [(0, 0, 1)]}).open_sampler(**options)
    made = sampler.sample(np.empty((0, 3), dtype=np.int64), 3)
    assert made.replaced.shape == (0, 1)
    assert made.head_counts.shape == made.relation_counts.shape == (0,)
    assert made.mask is None or made.mask.shape == (0, 1)
    assert made.log_q is None or made.log_q.shape == (0, 1)
    assert made.num_saturated == 0
