"""Refused sampler configurations, and equality of configurations."""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from negserve.errors import InvalidRequestError
from negserve.types.config import MAX_NUM_NEGS_PER_POS, SLOTS, SPLITS, SamplerConfig
from negserve.types.id_set import IdSet
from negserve.types.kinds import KINDS
from negserve_server.graph import TriplesFactory, TypeConstraints
from negserve_server.index import FilterIndex
from negserve_server.sampling import ALGORITHM_VERSION
from negserve_server.sampling.draw_tables import DrawTables
from negserve_server.sampling.graph import Graph
from negserve_server.triple_columns import TripleColumns

TRIPLES = np.array([(0, 0, 1), (1, 0, 2)], dtype=np.int64)
LAST_64 = 2**64 - 1

A_KIND = "basic, bernoulli, pseudotyped, typed, degree, mixture"
A_PART = "different kinds of basic, bernoulli, pseudotyped, typed, degree"
PAIRS = "pairs of a kind and a number of shares"
WHOLE_SHARES = "whole shares from 1 to 65536"
K = "1 to 1048576"
EXPONENT = "a number from 0 to 4"
SLOTS_IN_WORDS = "different ones of head, relation, tail"
SPLITS_IN_WORDS = "different ones of training, validation, testing"
SEED = f"0 to {LAST_64}"
IDS = "entity ids, at least one"
UINT32 = "0 to 4294967295"


def degree(**options: Any) -> dict[str, Any]:
    return {"kind": "degree", **options}


def mixture(*parts: Any) -> dict[str, Any]:
    return {"kind": "mixture", "mixture": parts}


# Options, the field that is named, and what is said of it.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *(({"kind": kind}, "kind", A_KIND) for kind in ("uniform", "", "Basic", None, 1, ("basic",))),
    (mixture(), "mixture", "if and only if kind is mixture"),
    ({"mixture": (("basic", 1),)}, "mixture", "if and only if kind is mixture"),
    *((mixture(part), "mixture", PAIRS) for part in (5, None, (), ("basic",), ("basic", 1, 1))),
    ({"kind": "mixture", "mixture": 5}, "mixture", PAIRS),
    (mixture(("basic", 1), ("basic", 2)), "mixture", A_PART),
    *((mixture((kind, 1)), "mixture", A_PART) for kind in ("mixture", "uniform", None)),
    *(
        (mixture(("basic", shares)), "mixture", WHOLE_SHARES)
        for shares in (0, -1, 65_537, 1.5, "1", True, None)
    ),
    *((degree(alpha=a), "alpha", EXPONENT) for a in (-0.1, 4.1, math.inf, math.nan, "1", None)),
    (degree(alpha=True), "alpha", EXPONENT),
    ({"alpha": 1.0}, "alpha", "no effect without kind degree"),
    *(
        ({"num_negs_per_pos": k}, "num_negs_per_pos", K)
        for k in (0, -1, MAX_NUM_NEGS_PER_POS + 1, 2.5, "3", True, None)
    ),
    *(({"chunk_size": c}, "chunk_size", K) for c in (0, -1, 2**20 + 1, 2.5, "3", True, None)),
    *(({"seed": seed}, "seed", SEED) for seed in (-1, 2**64, 1.5, "1", None)),
    ({"corruption_scheme": ()}, "corruption_scheme", "at least one slot"),
    *(
        ({"corruption_scheme": slots}, "corruption_scheme", SLOTS_IN_WORDS)
        for slots in (("head", "head"), ("head", "subject"), "head", {"head"})
    ),
    *(
        ({"filter_splits": splits}, "filter_splits", SPLITS_IN_WORDS)
        for splits in (("train",), ("testing", "training", "testing"), "training", None)
    ),
    *(
        ({"filter_mode": mode, "filter_splits": ("training",)}, "filter_mode", "exact, mask")
        for mode in ("soft", "", None, "Mask")
    ),
    *(
        ({"candidates": ids}, "candidates", IDS)
        for ids in ((), [], 3, "01", (1.5,), (True,), ((1, 2),), {1, 2})
    ),
    *(({"candidates": (3, bad)}, "candidates", "ids of the graph") for bad in (-1, 2**32)),
    *(({"algorithm_version": v}, "algorithm_version", UINT32) for v in (-1, 2**32, "2", 2.5, None)),
]


@pytest.mark.parametrize(("options", "field", "remedy"), REFUSED, ids=str)
def test_a_value_that_is_not_legal_is_named_with_the_remedy(
    options: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplerConfig(**options)
    assert caught.value.reason == "INVALID_CONFIGURATION"
    assert caught.value.metadata["field"] == field
    assert remedy in caught.value.metadata["expected"]
    assert str(caught.value).startswith(f"{field}=")
    assert str(caught.value).endswith(f" is not legal: {caught.value.metadata['expected']}")


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_negs_per_pos", 0), ("seed", -1), ("kind", "x"), ("filter_splits", ("train",))],
)
def test_a_refusal_shows_the_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplerConfig(**{field: value})
    assert caught.value.metadata["value"] == str(value)
    assert str(caught.value).startswith(f"{field}={value!r} is not legal")


def test_a_refusal_of_many_candidates_does_not_show_them_all() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplerConfig(candidates=tuple(i + 0.5 for i in range(10_000)))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", ["distinct", "log_q"])
@pytest.mark.parametrize("value", ["false", 1, 0, None])
def test_only_truth_values_switch_options(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"{field}=.* is not legal") as caught:
        SamplerConfig(**{field: value})
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (mixture((["basic"], 1)), "mixture"),
        ({"corruption_scheme": (["head"],)}, "corruption_scheme"),
        ({"filter_splits": (["training"],)}, "filter_splits"),
        ({"candidates": ((1,), (2, 3))}, "candidates"),
    ],
    ids=str,
)
def test_nested_values_are_refused_like_others(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplerConfig(**options)
    assert caught.value.metadata["field"] == field


# --- Combinations: the table of the page, row by row ---

MASKED = {"filter_splits": ("training",), "filter_mode": "mask"}
COMBINATIONS: list[tuple[dict[str, Any], str, str]] = [
    *(
        ({**kind, "corruption_scheme": scheme}, "corruption_scheme", "only head and tail")
        for kind in (
            {"kind": "bernoulli"},
            {"kind": "pseudotyped"},
            {"kind": "typed"},
            mixture(("basic", 1), ("typed", 1)),
            mixture(("bernoulli", 2), ("degree", 1)),
        )
        for scheme in (("relation",), ("tail", "relation"), SLOTS)
    ),
    (degree(distinct=True), "distinct", "the heaviest would be drawn at most once"),
    ({**mixture(("basic", 1)), "distinct": True}, "distinct", "a part would have to know"),
    ({"distinct": True, "log_q": True}, "log_q", "depend on each other"),
    *(
        ({**kind, "chunk_size": 2}, "chunk_size", "depend on the relation, which differs")
        for kind in ({"kind": "pseudotyped"}, {"kind": "typed"}, mixture(("basic", 1)))
    ),
    *(
        ({"chunk_size": 2, "corruption_scheme": scheme, **kind}, "chunk_size", "one set of values")
        for scheme in (("relation", "tail"), ("head", "relation"), SLOTS)
        for kind in ({}, {"kind": "degree"})
    ),
    (
        {"chunk_size": 2, "filter_splits": ("testing",)},
        "filter_mode",
        "can't avoid what is known of each positive of a chunk; use mask",
    ),
    ({"filter_mode": "mask"}, "filter_mode", "nothing to flag"),
    *(
        ({"alpha": 0.5, **kind}, "alpha", "no effect without kind degree")
        for kind in ({}, {"kind": "typed"}, mixture(("basic", 1), ("typed", 1)))
    ),
]


@pytest.mark.parametrize(("options", "field", "reason"), COMBINATIONS, ids=str)
def test_a_combination_without_meaning_is_refused_with_the_reason(
    options: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplerConfig(**options)
    assert caught.value.metadata["field"] == field
    assert reason in caught.value.metadata["expected"]
    # Each refused option can be had alone: the combination is what is refused.
    for name in ("corruption_scheme", "distinct", "log_q", "chunk_size"):
        if name in options:
            assert getattr(SamplerConfig(**{name: options[name]}), name) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "basic", "corruption_scheme": ("tail", "relation")},
        degree(corruption_scheme=("relation",), chunk_size=2),
        {**mixture(("degree", 1), ("basic", 1)), "corruption_scheme": SLOTS, "alpha": 2.0},
        {**mixture(("degree", 1), ("bernoulli", 1)), "alpha": 0.5},
        {"kind": "typed", "distinct": True, "filter_splits": ("training",)},
        {"kind": "pseudotyped", "log_q": True, **MASKED},
        {"kind": "bernoulli", "distinct": True, "chunk_size": 2, **MASKED},
        {"corruption_scheme": ("relation",), "chunk_size": 2, "distinct": True},
        degree(chunk_size=2**20, log_q=True, alpha=4.0),
        {"alpha": 0.75},
        {"filter_mode": "exact"},
    ],
    ids=str,
)
def test_neighbours_of_refused_combinations_are_legal(options: dict[str, Any]) -> None:
    config = SamplerConfig(**options)
    assert all(
        set(getattr(config, name)) == set(value)
        if isinstance(value, tuple)
        else getattr(config, name) == value
        for name, value in options.items()
    )


# --- What only a server and its graph can refuse ---

# Six entities and three relations; entity 5 is in no triple.
SMALL: list[tuple[int, int, int]] = [
    (0, 0, 1), (0, 0, 2), (1, 0, 2), (1, 1, 3), (2, 1, 3), (3, 1, 4), (4, 2, 0), (0, 2, 4)
]  # fmt: skip
CONSTRAINTS = {"heads": [(0, 0), (0, 1), (1, 2)], "tails": [(0, 2), (0, 4), (2, 5)]}


def small(*, num_relations: int = 3, constrained: bool = True) -> TriplesFactory:
    """The small graph; with a single relation on request."""
    triples = np.array(SMALL, dtype=np.int64)
    pairs = {slot: np.array(rows, dtype=np.int64) for slot, rows in CONSTRAINTS.items()}
    for array in (triples[:, 1], pairs["heads"][:, 0], pairs["tails"][:, 0]):
        np.minimum(array, num_relations - 1, out=array)
    return TriplesFactory(
        {"training": triples[:6], "validation": triples[6:]},
        num_entities=6,
        num_relations=num_relations,
        type_constraints=TypeConstraints(**pairs) if constrained else None,
    )


@pytest.mark.parametrize("version", [ALGORITHM_VERSION - 1, ALGORITHM_VERSION + 1])
def test_only_the_version_at_hand_is_computed(version: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"version {ALGORITHM_VERSION}") as caught:
        small().open_sampler(algorithm_version=version)
    assert caught.value.metadata["field"] == "algorithm_version"
    for legal in (0, ALGORITHM_VERSION):
        sampler = small().open_sampler(algorithm_version=legal)
        assert sampler.config.algorithm_version == ALGORITHM_VERSION


@pytest.mark.parametrize("kind", [{"kind": "typed"}, mixture(("basic", 1), ("typed", 1))])
def test_typed_negatives_need_type_constraints(kind: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="no type constraints") as caught:
        small(constrained=False).open_sampler(**kind)
    assert caught.value.metadata["field"] in {"kind", "mixture"}
    assert small().open_sampler(**kind).sample(SMALL, 0).replaced.shape == (8, 1)


@pytest.mark.parametrize(
    ("scheme", "num_entities", "num_relations", "slot"),
    [
        (("head",), 1, 5, "head"),
        (("tail",), 1, 5, "tail"),
        (("relation", "tail"), 5, 1, "relation"),
    ],
)
def test_a_slot_with_a_single_id_cannot_be_replaced(
    scheme: Any, num_entities: int, num_relations: int, slot: str
) -> None:
    factory = TriplesFactory(
        {"training": [(0, 0, 0)]}, num_entities=num_entities, num_relations=num_relations
    )
    with pytest.raises(InvalidRequestError, match=f"only one id for the {slot}") as caught:
        factory.open_sampler(corruption_scheme=scheme)
    assert caught.value.metadata["field"] == "corruption_scheme"
    assert caught.value.metadata["value"] == str(scheme)


def test_a_slot_with_a_single_id_harms_no_scheme_without_it() -> None:
    factory = TriplesFactory({"training": TRIPLES})
    assert factory.num_relations == 1
    batch = factory.open_sampler(corruption_scheme=("head", "tail")).sample(TRIPLES, 0)
    assert batch.relation_counts.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("options", "room"),
    [
        ({}, 6),
        ({"kind": "bernoulli"}, 6),
        ({"candidates": (1, 4, 5)}, 3),
        ({"corruption_scheme": ("relation",)}, 3),
        ({"corruption_scheme": ("relation",), "candidates": (1, 4)}, 3),
    ],
    ids=str,
)
def test_distinct_values_of_a_chunk_cannot_be_more_than_candidates(
    options: dict[str, Any], room: int
) -> None:
    options = {"chunk_size": 4, "distinct": True, **options}
    batch = small().open_sampler(num_negs_per_pos=room, **options).sample(SMALL, 0)
    assert batch.replaced.shape == (2, room)
    with pytest.raises(InvalidRequestError, match=str(room)) as caught:
        small().open_sampler(num_negs_per_pos=room + 1, **options)
    assert caught.value.metadata["field"] in {"num_negs_per_pos", "distinct"}
    # Without chunks, what is too much is masked.
    del options["chunk_size"]
    assert small().open_sampler(num_negs_per_pos=20, **options).sample(SMALL, 0).num_saturated == 8


def test_candidates_are_entities_of_the_graph() -> None:
    assert small().open_sampler(candidates=(0, 5)).sample(SMALL, 0).replaced.max() <= 5
    for candidates in ((6,), (0, 1, 2**32 - 1)):
        with pytest.raises(InvalidRequestError, match="6 entities, ids 0 to 5") as caught:
            small().open_sampler(candidates=candidates)
        assert caught.value.metadata["field"] == "candidates"
        assert caught.value.metadata["value"] == str(candidates[-1])


@pytest.mark.parametrize(
    ("kind", "candidates"),
    [
        ({"kind": "degree"}, (5,)),
        # Seen as a tail, but not as a head.
        ({"kind": "degree"}, (4, 5)),
        (mixture(("basic", 1), ("degree", 1)), (5,)),
    ],
    ids=str,
)
def test_candidates_of_degree_must_not_all_weigh_nothing(
    kind: dict[str, Any], candidates: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidRequestError, match="weigh 0") as caught:
        small().open_sampler(candidates=candidates, **kind)
    assert caught.value.metadata["field"] == "candidates"
    assert small().open_sampler(candidates=candidates, alpha=0, **kind).sample(SMALL, 0)
    assert small().open_sampler(candidates=(0, 3), **kind).sample(SMALL, 0)


def test_a_split_that_the_graph_lacks_cannot_be_filtered() -> None:
    factory = TriplesFactory({"training": TRIPLES})
    with pytest.raises(InvalidRequestError, match="this graph has training") as caught:
        factory.open_sampler(filter_splits=("training", "testing"))
    assert caught.value.metadata["value"] == "('training', 'testing')"


def test_a_filter_index_is_given_if_and_only_if_the_configuration_filters() -> None:
    index = FilterIndex(TRIPLES, num_entities=3, num_relations=1)
    graph = Graph(training=TripleColumns.of(TRIPLES, 3, 1), num_entities=3, num_relations=1)
    for config, given in (
        (SamplerConfig(), index),
        (SamplerConfig(filter_splits=("testing",)), None),
    ):
        with pytest.raises(ValueError, match="if and only if config has filter_splits"):
            DrawTables(config, graph, given)


# --- Every combination of options: it samples, or the page says that it is refused ---

ALL_KINDS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in KINDS if kind != "mixture"),
    degree(alpha=0.0),
    {"alpha": 2.0},
    mixture(("basic", 1), ("degree", 2)),
    mixture(("bernoulli", 1), ("typed", 1), ("degree", 1), ("pseudotyped", 5), ("basic", 1)),
]
ALL_SCHEMES = [
    ("head",), ("relation",), ("tail",), ("head", "relation"), ("head", "tail"),
    ("relation", "tail"), ("head", "relation", "tail"),
]  # fmt: skip
ALL_FILTERS: list[dict[str, Any]] = [
    {},
    {"filter_splits": ("training", "validation")},
    {"filter_splits": ("training",), "filter_mode": "mask"},
    {"filter_mode": "mask"},
]
ALL_CANDIDATES: list[dict[str, Any]] = [{}, {"candidates": (0, 2, 3, 5)}, {"candidates": (5,)}]
ALL_REST = [
    {"distinct": distinct, "chunk_size": chunk_size, "log_q": log_q, "num_negs_per_pos": k}
    for distinct in (False, True)
    for chunk_size in (1, 3)
    for log_q in (False, True)
    for k in (3, 5)
]


def documented_refusals(
    options: dict[str, Any], *, num_relations: int, constrained: bool
) -> dict[str, bool]:
    """Return the rows of the page's table that forbid the options on the small graph."""
    kind = options.get("kind", "basic")
    parts = {part for part, _ in options.get("mixture", ())} or {kind}
    scheme = set(options["corruption_scheme"])
    chunks = options["chunk_size"] > 1
    candidates = set(options.get("candidates", range(6)))
    exact = "filter_splits" in options and options.get("filter_mode") != "mask"
    num_candidates = num_relations if scheme == {"relation"} else len(candidates)
    return {
        "relations by type": "relation" in scheme
        and bool(parts & {"bernoulli", "pseudotyped", "typed"}),
        "distinct degree": options["distinct"] and kind == "degree",
        "distinct mixture": options["distinct"] and kind == "mixture",
        "distinct with log_q": options["distinct"] and options["log_q"],
        "chunk by relation": chunks and kind in {"pseudotyped", "typed", "mixture"},
        "chunk of two id spaces": chunks and "relation" in scheme and len(scheme) > 1,
        "chunk with an exact filter": chunks and exact,
        "mask of nothing": options.get("filter_mode") == "mask" and "filter_splits" not in options,
        "alpha without degree": options.get("alpha", 0.75) != 0.75 and "degree" not in parts,
        "typed without constraints": "typed" in parts and not constrained,
        "one id only": "relation" in scheme and num_relations == 1,
        "too many distinct in a chunk": chunks
        and options["distinct"]
        and options["num_negs_per_pos"] > num_candidates,
        "candidates without weight": "degree" in parts
        and bool(scheme & {"head", "tail"})
        and candidates == {5}
        and options.get("alpha") != 0,
    }


@pytest.mark.parametrize(
    ("num_relations", "constrained"), [(3, True), (3, False), (1, True)], ids=str
)
def test_every_combination_samples_or_is_refused_as_documented(
    num_relations: int, constrained: bool
) -> None:
    factory = small(num_relations=num_relations, constrained=constrained)
    positives = factory.mapped_triples
    n = len(positives)
    used = {"none": 0}
    combinations = product(ALL_KINDS, ALL_SCHEMES, ALL_FILTERS, ALL_CANDIDATES, ALL_REST)
    for kind, scheme, filtered, candidates, rest in combinations:
        if (num_relations, constrained) != (3, True) and candidates:
            continue
        options = {**kind, **filtered, **candidates, **rest, "corruption_scheme": scheme}
        k = rest["num_negs_per_pos"]
        table = documented_refusals(options, num_relations=num_relations, constrained=constrained)
        rules = [rule for rule, forbids in table.items() if forbids]
        used = {rule: used.get(rule, 0) + forbids for rule, forbids in table.items()} | {
            "none": used["none"] + (not rules)
        }
        try:
            sampler = factory.open_sampler(**options)
        except InvalidRequestError as refusal:
            assert rules, f"{options} refused: {refusal}"
            continue
        assert not rules, f"{options} not refused: {rules}"
        batch = sampler.sample(positives, 4)
        # Positions 4, 5 | 6, 7, 8 | 9, ... where chunks are of three.
        rows = n if rest["chunk_size"] == 1 else (4 + n - 1) // 3 - 4 // 3 + 1
        assert batch.replaced.shape == (rows, k)
        masked = "filter_splits" in filtered or rest["distinct"] or rest["chunk_size"] > 1
        assert (batch.mask is not None) == masked
        assert batch.mask is None or batch.mask.shape == (n, k)
        assert (batch.log_q is not None) == rest["log_q"]
        assert batch.log_q is None or batch.log_q.shape == (n, k)
    # No rule is there for nothing, except those of the other graphs.
    idle = {
        (3, True): {"typed without constraints", "one id only"},
        (3, False): {"one id only", "candidates without weight"},
        (1, True): {"typed without constraints", "candidates without weight"},
    }
    assert {rule for rule, count in used.items() if count == 0} == idle[num_relations, constrained]
    assert used["none"] > 100


# --- Legal values, equality and what follows from a configuration ---


def test_refusals_are_value_errors_of_the_caller() -> None:
    with pytest.raises(ValueError, match="kind='x' is not legal") as caught:
        SamplerConfig(kind="x")  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_negs_per_pos", 1),
        ("num_negs_per_pos", MAX_NUM_NEGS_PER_POS),
        ("num_negs_per_pos", np.int32(7)),
        ("chunk_size", 1),
        ("chunk_size", 2**20),
        ("seed", 0),
        ("seed", LAST_64),
        ("filter_splits", ()),
        ("candidates", None),
        ("candidates", IdSet((0, 2**32 - 1))),
    ],
)
def test_the_limits_themselves_are_legal(field: str, value: Any) -> None:
    assert getattr(SamplerConfig(**{field: value}), field) == value


@pytest.mark.parametrize("alpha", [0, 0.0, 4, 4.0, np.float32(0.5), 1])
def test_any_real_exponent_is_taken_as_a_float(alpha: Any) -> None:
    config = SamplerConfig(kind="degree", alpha=alpha)
    assert config.alpha == alpha
    assert type(config.alpha) is float


@pytest.mark.parametrize("shares", [1, 65_536, np.uint16(3)])
def test_shares_of_a_mixture_may_be_any_whole_number(shares: Any) -> None:
    config = SamplerConfig(kind="mixture", mixture=(("typed", shares), ("degree", 1)), alpha=0.5)
    assert config.mixture == config.parts == (("typed", shares), ("degree", 1))
    assert SamplerConfig(kind="typed").parts == (("typed", 1),)


def test_order_of_slots_splits_and_candidates_makes_no_difference() -> None:
    configs = {
        SamplerConfig(corruption_scheme=slots, filter_splits=splits, candidates=(*ids, ids[0]))
        for slots in permutations(SLOTS)
        for splits in permutations(SPLITS)
        for ids in permutations((3, 1, 2))
    }
    assert len(configs) == 1
    (config,) = configs
    assert config.corruption_scheme == ("head", "relation", "tail")
    assert config.filter_splits == ("training", "validation", "testing")
    assert config.candidates == IdSet((1, 2, 3))
    assert tuple(config.candidates or ()) == (1, 2, 3)


def test_lists_and_arrays_are_taken_as_tuples() -> None:
    listed: Any = ["tail", "head"]
    config = SamplerConfig(corruption_scheme=listed, filter_splits=listed[:0])
    assert config.corruption_scheme == ("head", "tail")
    assert hash(config) == hash(SamplerConfig())
    ids: Any = np.array([4, 2], dtype=np.uint64)
    parts: Any = [["basic", 2]]
    config = SamplerConfig(kind="mixture", mixture=parts, candidates=ids)
    assert config.candidates == IdSet((2, 4))
    assert config.mixture == (("basic", 2),)
    assert all(type(value) is int for value in config.candidates or ())
    assert hash(config) == hash(
        SamplerConfig(kind="mixture", mixture=(("basic", 2),), candidates=(2, 4))
    )


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "bernoulli"},
        mixture(("basic", 1)),
        {"num_negs_per_pos": 2},
        {"corruption_scheme": ("head",)},
        {"candidates": (0,)},
        {"filter_splits": ("training",)},
        MASKED,
        {"distinct": True},
        {"chunk_size": 2},
        {"log_q": True},
        {"seed": 1},
    ],
    ids=str,
)
def test_configurations_that_differ_in_a_field_are_not_equal(other: dict[str, Any]) -> None:
    assert SamplerConfig(**other) != SamplerConfig()
    assert SamplerConfig(**MASKED) != SamplerConfig(filter_splits=("training",))
    assert SamplerConfig(kind="degree", alpha=1.0) != SamplerConfig(kind="degree")


def test_version_0_asks_for_the_newest() -> None:
    assert SamplerConfig(algorithm_version=0) == SamplerConfig()
    assert small().open_sampler().config.algorithm_version == ALGORITHM_VERSION == 2


def test_a_configuration_is_immutable() -> None:
    config = SamplerConfig()
    with pytest.raises(AttributeError):
        config.seed = 1  # type: ignore[misc]


def test_only_filter_splits_make_a_configuration_filtered() -> None:
    assert not SamplerConfig().filtered
    assert SamplerConfig(filter_splits=("testing",)).filtered


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        ({}, False),
        ({"kind": "typed", "log_q": True, "candidates": (1,)}, False),
        ({"filter_splits": ("testing",)}, True),
        (MASKED, True),
        ({"distinct": True}, True),
        ({"chunk_size": 2}, True),
    ],
    ids=str,
)
def test_filters_distinct_values_and_chunks_bring_a_mask(
    options: dict[str, Any], masked: bool
) -> None:
    assert SamplerConfig(**options).masked == masked


@pytest.mark.parametrize(
    ("positives", "reason"),
    [
        ([0, 0, 1], "SHAPE_MISMATCH"),
        ([[0, 0]], "SHAPE_MISMATCH"),
        ([[[0, 0, 1]]], "SHAPE_MISMATCH"),
        ([[0.0, 0.0, 1.0]], "SHAPE_MISMATCH"),
        ([[3, 0, 1]], "ENTITY_ID_OUT_OF_RANGE"),
        ([[0, -1, 1]], "RELATION_ID_OUT_OF_RANGE"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"chunk_size": 3}, {"distinct": True}, {"log_q": True}])
def test_positives_that_are_no_triples_of_the_id_space_are_refused(
    positives: Any, reason: str, options: dict[str, Any]
) -> None:
    sampler = TriplesFactory({"training": TRIPLES}).open_sampler(**options)
    with pytest.raises(InvalidRequestError) as caught:
        sampler.sample(positives, 0)
    assert caught.value.reason == reason
    assert {"value", "expected" if reason == "SHAPE_MISMATCH" else "limit"} <= set(
        caught.value.metadata
    )
