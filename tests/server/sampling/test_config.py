"""What a sampler's configuration refuses, and which configurations are equal."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from negserve_server.errors import InvalidConfiguration, InvalidInput, NegserveServerError
from negserve_server.graph import TriplesFactory
from negserve_server.index import FilterIndex
from negserve_server.sampling import (
    ALGORITHM_VERSION,
    MAX_NUM_NEGS_PER_POS,
    SLOTS,
    SPLITS,
    Domain,
    SamplerConfig,
)

TRIPLES = np.array([(0, 0, 1), (1, 0, 2)], dtype=np.int64)

REFUSED: list[tuple[str, Any, str]] = [
    ("kind", "uniform", "basic, bernoulli, pseudotyped"),
    ("kind", "", "basic, bernoulli, pseudotyped"),
    ("kind", "Basic", "basic, bernoulli, pseudotyped"),
    ("num_negs_per_pos", 0, "1 to 1048576"),
    ("num_negs_per_pos", -1, "1 to 1048576"),
    ("num_negs_per_pos", MAX_NUM_NEGS_PER_POS + 1, "1 to 1048576"),
    ("corruption_scheme", (), "at least one slot"),
    ("corruption_scheme", ("head", "head"), "different ones of head, relation, tail"),
    ("corruption_scheme", ("head", "subject"), "different ones of head, relation, tail"),
    ("filter_splits", ("train",), "different ones of training, validation, testing"),
    (
        "filter_splits",
        ("testing", "training", "testing"),
        "different ones of training, validation, testing",
    ),
    ("seed", -1, "0 to 2^64 - 1"),
    ("seed", 2**64, "0 to 2^64 - 1"),
    ("algorithm_version", ALGORITHM_VERSION + 1, f"version {ALGORITHM_VERSION}"),
    ("algorithm_version", -1, f"version {ALGORITHM_VERSION}"),
]


@pytest.mark.parametrize(("field", "value", "remedy"), REFUSED)
def test_a_value_that_is_not_legal_is_named_with_the_remedy(
    field: str, value: Any, remedy: str
) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        SamplerConfig(**{field: value})
    assert caught.value.reason == "INVALID_CONFIGURATION"
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["value"] == str(value)
    assert remedy in caught.value.metadata["limit"]
    assert str(caught.value) == f"{field}={value!r} is not legal: {caught.value.metadata['limit']}"


@pytest.mark.parametrize("kind", ["bernoulli", "pseudotyped"])
@pytest.mark.parametrize("scheme", [("relation",), ("tail", "relation")])
def test_relations_are_replaced_by_the_basic_kind_only(kind: Any, scheme: Any) -> None:
    with pytest.raises(InvalidConfiguration, match="use kind basic for relations") as caught:
        SamplerConfig(kind=kind, corruption_scheme=scheme)
    assert caught.value.metadata["field"] == "corruption_scheme"
    assert kind in caught.value.metadata["limit"]
    assert SamplerConfig(kind="basic", corruption_scheme=scheme).kind == "basic"


@pytest.mark.parametrize("field", ["corruption_scheme", "filter_splits"])
@pytest.mark.parametrize("value", ["head", "training"])
def test_a_bare_name_in_place_of_a_tuple_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        SamplerConfig(**{field: value})  # type: ignore[arg-type]
    assert caught.value.metadata["field"] == field


def test_refusals_are_value_errors_of_the_caller() -> None:
    with pytest.raises(ValueError, match="kind='x' is not legal") as caught:
        SamplerConfig(kind="x")  # type: ignore[arg-type]
    assert isinstance(caught.value, InvalidInput)
    assert isinstance(caught.value, NegserveServerError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_negs_per_pos", 1),
        ("num_negs_per_pos", MAX_NUM_NEGS_PER_POS),
        ("seed", 0),
        ("seed", 2**64 - 1),
        ("filter_splits", ()),
    ],
)
def test_the_limits_themselves_are_legal(field: str, value: Any) -> None:
    assert getattr(SamplerConfig(**{field: value}), field) == value


def test_order_of_slots_and_splits_makes_no_difference() -> None:
    configs = {
        SamplerConfig(corruption_scheme=slots, filter_splits=splits)
        for slots in permutations(SLOTS)
        for splits in permutations(SPLITS)
    }
    assert len(configs) == 1
    (config,) = configs
    assert config.corruption_scheme == ("head", "relation", "tail")
    assert config.filter_splits == ("training", "validation", "testing")


def test_lists_are_taken_as_tuples() -> None:
    listed: Any = ["tail", "head"]
    config = SamplerConfig(corruption_scheme=listed, filter_splits=listed[:0])
    assert config.corruption_scheme == ("head", "tail")
    assert hash(config) == hash(SamplerConfig())


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "bernoulli"},
        {"num_negs_per_pos": 2},
        {"corruption_scheme": ("head",)},
        {"filter_splits": ("training",)},
        {"seed": 1},
    ],
)
def test_configurations_that_differ_in_a_field_are_not_equal(other: dict[str, Any]) -> None:
    assert SamplerConfig(**other) != SamplerConfig()


def test_version_0_asks_for_the_newest() -> None:
    assert SamplerConfig(algorithm_version=0) == SamplerConfig()
    assert SamplerConfig(algorithm_version=0).algorithm_version == ALGORITHM_VERSION == 1


def test_a_configuration_cannot_be_changed() -> None:
    config = SamplerConfig()
    with pytest.raises(AttributeError):
        config.seed = 1  # type: ignore[misc]


def test_only_filter_splits_make_a_configuration_filtered() -> None:
    assert not SamplerConfig().filtered
    assert SamplerConfig(filter_splits=("testing",)).filtered


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
    config = SamplerConfig(corruption_scheme=scheme)
    with pytest.raises(InvalidConfiguration, match=f"only one id for the {slot}") as caught:
        Domain(
            config,
            training=np.zeros((1, 3), dtype=np.int64),
            filter_index=None,
            num_entities=num_entities,
            num_relations=num_relations,
        )
    assert caught.value.metadata["field"] == "corruption_scheme"
    assert caught.value.metadata["value"] == str(config.corruption_scheme)


def test_a_slot_with_a_single_id_harms_no_scheme_without_it() -> None:
    factory = TriplesFactory({"training": TRIPLES})
    assert factory.num_relations == 1
    batch = factory.open_sampler(corruption_scheme=("head", "tail")).sample(TRIPLES, 0)
    assert batch.relation_counts.tolist() == [0, 0]


def test_a_filter_index_is_given_if_and_only_if_the_configuration_filters() -> None:
    index = FilterIndex(TRIPLES, num_entities=3, num_relations=1)
    for config, given in (
        (SamplerConfig(), index),
        (SamplerConfig(filter_splits=("testing",)), None),
    ):
        with pytest.raises(ValueError, match="if and only if config has filter_splits"):
            Domain(config, training=TRIPLES, filter_index=given, num_entities=3, num_relations=1)


def test_a_split_that_the_graph_lacks_cannot_be_filtered() -> None:
    factory = TriplesFactory({"training": TRIPLES})
    with pytest.raises(InvalidConfiguration, match="this graph has training") as caught:
        factory.open_sampler(filter_splits=("training", "testing"))
    assert caught.value.metadata["value"] == "('training', 'testing')"


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
def test_positives_that_are_no_triples_of_the_id_space_are_refused(
    positives: Any, reason: str
) -> None:
    sampler = TriplesFactory({"training": TRIPLES}).open_sampler()
    with pytest.raises(InvalidInput) as caught:
        sampler.sample(positives, 0)
    assert caught.value.reason == reason
    assert {"value", "limit"} <= set(caught.value.metadata)


@pytest.mark.parametrize(
    ("options", "field", "shown"),
    [
        ({"num_negs_per_pos": 2.5}, "num_negs_per_pos", "2.5"),
        ({"num_negs_per_pos": "3"}, "num_negs_per_pos", "'3'"),
        ({"seed": 1.5}, "seed", "1.5"),
        ({"filter_splits": None}, "filter_splits", "None"),
        ({"corruption_scheme": "head"}, "corruption_scheme", "'head'"),
    ],
)
def test_a_value_of_another_type_is_refused(
    options: dict[str, Any], field: str, shown: str
) -> None:
    with pytest.raises(InvalidConfiguration, match=f"{field}={shown} is not legal"):
        SamplerConfig(**options)
