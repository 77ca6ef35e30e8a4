"""The false-negative report, against exact enumeration and against samplers' draws."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.types.config import SLOTS, SPLITS
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.kinds import PART_KINDS
from negserve_server.graph import TriplesFactory, TypeConstraints
from negserve_server.report import FalseNegativeReport, false_negative_report
from tests.server.sampling.reference import Reference, Triple
from tests.support.graphs import REPOSITORY, has_type_constraints, load
from tests.support.programs.examples import examples

TWO_32 = 2**32
SCHEMES = (
    ("head", "tail"),
    ("head",),
    ("tail",),
    ("relation",),
    ("head", "relation"),
    ("head", "relation", "tail"),
)
#: Roundings of a quotient, a product and some sums.
PRECISION = 1e-13


# --- Enumeration ---


def one_triple(
    reference: Reference, known: set[Triple], triple: Triple
) -> tuple[list[Fraction], list[Fraction], Fraction, bool]:
    """Probability and share per slot, overall probability, and whether it is saturated.

    Every candidate is looked at. Candidates, units and shares are the reference's.
    """
    cells, ends = reference.cells(triple[1])
    shares = [Fraction(end - start, TWO_32) for start, end in zip([0, *ends], ends, strict=False)]

    def probability(slot: int, units: dict[int, int]) -> Fraction:
        hits = sum(
            weight
            for value, weight in units.items()
            if (*triple[:slot], value, *triple[slot + 1 :]) in known
        )
        return Fraction(hits, sum(units.values()))

    chances, is_open = [], []
    for cell in cells:
        units = {v: len(cell.units(v)) for v in cell.ids if v != triple[cell.slot]}
        is_open.append(sum(units.values()) > 0)
        chances.append(probability(cell.slot, units) if is_open[-1] else Fraction(0))
    if not any(is_open):
        last = cells[-1].slot
        others = {v: 1 for v in range(reference.num_ids[last]) if v != triple[last]}
        return chances, [Fraction(0)] * len(cells), probability(last, others), True
    for i in range(len(cells)):
        if not is_open[i]:
            shares[i], moved = Fraction(0), shares[i]
            shares[is_open.index(True)] += moved
    overall = sum((s * p for s, p in zip(shares, chances, strict=True)), Fraction(0))
    return chances, shares, overall, False


def assert_equals_enumeration(
    report: FalseNegativeReport, reference: Reference, known: set[Triple]
) -> None:
    total = Fraction(0)
    for relation in range(reference.num_ids[1]):
        triples = [triple for triple in reference.training if triple[1] == relation]
        assert report.num_triples[relation] == len(triples)
        if not triples:
            assert report.num_saturated[relation] == 0
            assert np.isnan(report.slot_probability[relation]).all()
            assert np.isnan(report.slot_share[relation]).all()
            assert np.isnan(report.relation_probability[relation])
            continue
        found = [one_triple(reference, known, triple) for triple in triples]
        total += sum((overall for _, _, overall, _ in found), Fraction(0))
        n = len(triples)

        def close(expected: Fraction) -> Any:
            return pytest.approx(float(expected), rel=PRECISION, abs=0)

        for slot in range(len(report.corruption_scheme)):
            assert report.slot_probability[relation, slot] == close(
                sum((chances[slot] for chances, _, _, _ in found), Fraction(0)) / n
            )
            assert report.slot_share[relation, slot] == close(
                sum((shares[slot] for _, shares, _, _ in found), Fraction(0)) / n
            )
        assert report.relation_probability[relation] == close(
            sum((overall for _, _, overall, _ in found), Fraction(0)) / n
        )
        assert report.num_saturated[relation] == sum(saturated for *_, saturated in found)
    assert report.probability == pytest.approx(
        float(total / len(reference.training)), rel=PRECISION, abs=0
    )


@st.composite
def graphs(draw: st.DrawFn) -> tuple[TriplesFactory, dict[str, Any]]:
    """Small graphs, dense and sparse, with what a reference needs."""
    num_entities, num_relations = draw(st.integers(2, 7)), draw(st.integers(2, 4))
    entities, relations = st.integers(0, num_entities - 1), st.integers(0, num_relations - 1)
    triple = st.tuples(entities, relations, entities)
    splits = {"training": draw(st.lists(triple, min_size=1, max_size=25))}
    for name in draw(st.sampled_from([(), ("testing",), ("validation", "testing")])):
        splits[name] = draw(st.lists(triple, max_size=15))
    # Narrow constraints leave triples without a candidate; some allow what training never has.
    allowed = st.dictionaries(relations, st.sets(entities, min_size=1, max_size=3), max_size=3)
    constraints = {"head": draw(allowed), "tail": draw(allowed)}
    type_constraints = None
    if any(constraints.values()):
        type_constraints = TypeConstraints(
            *(
                np.array([(r, e) for r, ids in by.items() for e in ids], dtype=int).reshape(-1, 2)
                for by in constraints.values()
            )
        )
    factory = TriplesFactory(
        {name: np.array(rows, dtype=int).reshape(-1, 3) for name, rows in splits.items()},
        num_entities=num_entities,
        num_relations=num_relations,
        type_constraints=type_constraints,
    )
    return factory, {
        "training": splits["training"],
        "type_constraints": constraints,
        "num_entities": num_entities,
        "num_relations": num_relations,
    }


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=graphs(), scheme=st.sampled_from(SCHEMES), chosen=st.sets(st.sampled_from(SPLITS)),
    alpha=st.sampled_from([0.75, 0.0, 1.0, 2.5]),
)  # fmt: skip
def test_reports_equal_enumeration(
    graph: tuple[TriplesFactory, dict[str, Any]],
    scheme: tuple[Any, ...],
    chosen: set[Any],
    alpha: float,
) -> None:
    factory, options = graph
    splits = [split for split in SPLITS if split in chosen & set(factory.splits)]
    reports = false_negative_report(
        factory, splits=splits or None, corruption_scheme=scheme, alpha=alpha
    )
    splits = splits or list(factory.splits)
    known = {tuple(row) for split in splits for row in factory.splits[split].tolist()}
    expected = ["basic", "degree"] if "relation" in scheme else list(PART_KINDS)
    if factory.type_constraints is None and "typed" in expected:
        expected.remove("typed")
    assert list(reports) == expected
    for kind, report in reports.items():
        event(f"saturated: {bool(report.num_saturated.any())}")
        assert report.kind == kind
        assert report.splits == tuple(splits)
        assert report.corruption_scheme == scheme
        assert report.alpha == (alpha if kind == "degree" else None)
        reference = Reference(kind=kind, corruption_scheme=scheme, alpha=alpha, **options)
        assert_equals_enumeration(report, reference, known)


# Four entities. Of relation 0, the heads 0 and 1 have the tails 2 and 3, except that (1, 0, 3) is
# left for testing. Relation 1 has one triple, so that training has seen nothing to replace it by.
TOY = {"training": [(0, 0, 2), (0, 0, 3), (1, 0, 2), (2, 1, 3)], "testing": [(1, 0, 3), (2, 1, 0)]}


def test_a_graph_small_enough_for_the_back_of_an_envelope() -> None:
    factory = TriplesFactory(TOY, num_entities=4, num_relations=3)
    reports = false_negative_report(factory)
    # (0, 0, 2): 1 of the other 3 heads and 1 of the other 3 tails is known; so for all of 0.
    # (2, 1, 3): none of the heads, and the tail 0.
    basic = reports["basic"]
    third = pytest.approx(1 / 3)
    assert basic.slot_probability[:2].tolist() == [[third, third], [0, third]]
    assert basic.slot_share[:2].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert basic.relation_probability[:2].tolist() == [third, pytest.approx(1 / 6)]
    assert basic.probability == pytest.approx((3 / 3 + 1 / 6) / 4)
    assert basic.expected(12)[:2].tolist() == [pytest.approx(12), pytest.approx(2)]
    # A relation without triples has no mean, and no false negatives.
    assert np.isnan(basic.relation_probability[2])
    assert basic.expected()[2] == 0
    # Of relation 0, all that was seen is known; of relation 1, any entity replaces the tail.
    pseudotyped = reports["pseudotyped"]
    assert pseudotyped.slot_probability[:2].tolist() == [[1, 1], [0, 0]]
    assert pseudotyped.slot_share[:2].tolist() == [[0.5, 0.5], [0, 0]]
    assert pseudotyped.relation_probability[:2].tolist() == [1, third]
    assert pseudotyped.num_saturated.tolist() == [0, 1, 0]
    # By training alone, (1, 0, 3) is a good negative, and a triple is never its own.
    of_training = false_negative_report(factory, kinds=["basic"], splits=["training"])["basic"]
    assert of_training.slot_probability[0].tolist() == [pytest.approx(2 / 9)] * 2
    of_testing = false_negative_report(factory, kinds=["basic"], splits=["testing"])["basic"]
    assert of_testing.slot_probability[0].tolist() == [pytest.approx(1 / 9)] * 2


def test_shares_of_a_slot_without_candidates_go_to_the_first_that_has_some() -> None:
    training = [(0, 0, 1), (0, 0, 2), (0, 1, 1), (0, 1, 3)]  # one head: nothing to replace it by
    factory = TriplesFactory({"training": training}, num_entities=4, num_relations=2)
    report = false_negative_report(factory, kinds=["degree"], corruption_scheme=SLOTS)["degree"]
    assert report.slot_share.tolist() == [[0, pytest.approx(2 / 3), pytest.approx(1 / 3)]] * 2
    reference = Reference(
        training=training, num_entities=4, num_relations=2, kind="degree", corruption_scheme=SLOTS
    )
    assert_equals_enumeration(report, reference, set(training))


# --- Real samplers ---


def known_negatives(
    graph: TriplesFactory, positives: NDArray[np.int64], batch: CorruptedBatch
) -> NDArray[np.bool_]:
    """Which negatives are known, shape (n, k)."""
    n, k = batch.replaced.shape
    triples = np.repeat(positives[:, None, :], k, axis=1)
    column = np.arange(k)
    heads = column < batch.head_counts[:, None]
    triples[..., 0][heads] = batch.replaced[heads]
    triples[..., 2][~heads] = batch.replaced[~heads]
    return graph.contains(triples.reshape(-1, 3), tuple(graph.splits)).reshape(n, k)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in ("world", "codex-s")
        for kind in PART_KINDS
        if kind != "typed" or has_type_constraints(name)
    ],
)
def test_samplers_without_a_filter_draw_as_many(name: str, kind: Any) -> None:
    graph = load(name)
    report = false_negative_report(graph, kinds=[kind])[kind]
    positives = graph.mapped_triples
    k = 2_000_000 // len(positives) + 1
    sampler = graph.open_sampler(
        kind=kind,
        num_negs_per_pos=k,
        filter_splits=tuple(graph.splits),
        filter_mode="mask",
        seed=20,
    )
    batch = sampler.sample(positives, 0)
    known = known_negatives(graph, positives, batch)
    assert batch.mask is not None
    assert batch.num_saturated == report.num_saturated.sum()
    # The mask is false where the negative is known, and for all negatives of saturated positives.
    assert (known <= ~batch.mask).all()
    assert (known != ~batch.mask).any(axis=1).sum() <= batch.num_saturated

    def deviations(observed: float, probability: float, count: int) -> float:
        # That of independent draws of the mean probability; systematic sampling has no larger.
        return (observed - count * probability) / np.sqrt(count * probability * (1 - probability))

    assert abs(deviations(known.sum(), report.probability, known.size)) < 5
    num_tested = 0
    for relation in range(graph.num_relations):
        rows = known[positives[:, 1] == relation]
        probability = report.relation_probability[relation]
        if 50 < rows.size * probability < rows.size - 50:
            assert abs(deviations(rows.sum(), probability, rows.size)) < 5
            num_tested += 1
        elif len(rows) and probability in {0, 1}:
            assert rows.mean() == probability
    assert num_tested > 5


@pytest.mark.parametrize(("column", "name"), [(0, "codex-s"), (1, "wn18rr"), (2, "fb15k-237")])
def test_the_document_has_these_figures(column: int, name: str) -> None:
    text = (REPOSITORY / "docs" / "sampling.md").read_text()
    _, _, section = text.partition("\n## False negatives\n")
    rows = re.findall(r"^\| (\w+) \|((?: [\d.]+ % \|){3})$", section, flags=re.MULTILINE)
    reports = false_negative_report(load(name))
    assert [kind for kind, _ in rows] == [kind for kind in PART_KINDS if kind in reports]
    for kind, cells in rows:
        shown = cells.split("|")[column].strip()
        assert shown == f"{100 * reports[kind].probability:.4f} %"


# --- The interface ---


def test_arrays_have_their_dtypes_and_are_read_only() -> None:
    report = false_negative_report(load("world"), kinds=["degree"])["degree"]
    num_relations = load("world").num_relations
    for name, dtype, shape in (
        ("num_triples", np.int64, (num_relations,)),
        ("num_saturated", np.int64, (num_relations,)),
        ("slot_probability", np.float64, (num_relations, 2)),
        ("slot_share", np.float64, (num_relations, 2)),
        ("relation_probability", np.float64, (num_relations,)),
    ):
        array = getattr(report, name)
        assert (array.dtype, array.shape) == (dtype, shape)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(FrozenInstanceError):
        report.probability = 0.0  # type: ignore[misc]


def test_relations_come_by_false_negatives_and_then_by_id() -> None:
    factory = TriplesFactory(
        {"training": [(0, 0, 1), (0, 1, 1), (0, 1, 2), (0, 3, 1), (0, 4, 1), (1, 4, 2)]},
        num_relations=5,
    )
    report = false_negative_report(factory, kinds=["basic"])["basic"]
    assert report.largest().tolist() == [1, 0, 3, 4]  # relation 2 has no triples
    assert report.largest(2).tolist() == [1, 0]


def test_a_dictionary_is_json_and_says_the_same() -> None:
    graph = load("world")
    report = false_negative_report(graph, kinds=["bernoulli"])["bernoulli"]
    assert graph.relations is not None
    labels = graph.relations.labels()
    made = json.loads(json.dumps(report.to_dict(7, labels=labels, top=3), allow_nan=False))
    assert made["kind"] == "bernoulli"
    assert "alpha" not in made
    assert made["splits"] == list(SPLITS)
    assert made["corruption_scheme"] == ["head", "tail"]
    assert made["num_triples"] == graph.num_triples
    assert made["num_negs_per_pos"] == 7
    assert made["probability"] == report.probability
    assert made["expected_false_negatives"] == pytest.approx(report.expected(7).sum())
    assert [row["relation_id"] for row in made["relations"]] == report.largest(3).tolist()
    for row in made["relations"]:
        relation = row["relation_id"]
        assert row["relation"] == labels[relation]
        assert row["num_triples"] == report.num_triples[relation]
        assert row["probability"] == report.relation_probability[relation]
        assert row["expected_false_negatives"] == report.expected(7)[relation]
        for i, slot in enumerate(("head", "tail")):
            assert row["slots"][slot]["probability"] == report.slot_probability[relation, i]
            assert row["slots"][slot]["share"] == report.slot_share[relation, i]


def test_a_dictionary_without_labels_has_ids_and_all_relations() -> None:
    factory = TriplesFactory(TOY, num_entities=4, num_relations=3)
    made = false_negative_report(factory, kinds=["degree"])["degree"].to_dict()
    assert made["alpha"] == 0.75
    assert [row["relation_id"] for row in made["relations"]] == [0, 1]
    assert "relation" not in made["relations"][0]
    json.dumps(made, allow_nan=False)


def test_kinds_come_in_the_order_asked_for_and_are_announced() -> None:
    announced: list[str] = []
    reports = false_negative_report(
        load("world"), kinds=["degree", "basic", "degree"], progress=announced.append
    )
    assert list(reports) == announced == ["degree", "basic"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": []}, "kinds"),
        ({"kinds": ["mixture"]}, "kinds"),
        ({"kinds": ["typed"]}, "no type constraints"),
        ({"kinds": ["basic"], "alpha": 0.5}, "alpha"),
        ({"kinds": ["bernoulli"], "corruption_scheme": ("relation",)}, "corruption_scheme"),
        ({"corruption_scheme": ()}, "corruption_scheme"),
        ({"splits": []}, "splits"),
        ({"splits": ["validation"]}, "this graph has training, testing"),
        ({"splits": ["training", "train"]}, "splits"),
    ],
)
def test_options_that_the_graph_lacks_are_refused(options: dict[str, Any], message: str) -> None:
    factory = TriplesFactory(TOY, num_entities=4, num_relations=3)
    with pytest.raises(InvalidRequestError, match=message):
        false_negative_report(factory, **options)


def test_slots_may_come_in_any_order() -> None:
    report = false_negative_report(load("world"), corruption_scheme=("tail", "head"))["basic"]
    assert report.corruption_scheme == SLOTS[::2]
