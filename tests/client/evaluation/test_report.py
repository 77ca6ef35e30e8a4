"""Reports of evaluations: parts, text, JSON and plots."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve import InvalidRequestError
from negserve.evaluation import EvaluationReport, evaluate, metric
from tests.client.evaluation.test_evaluate import TiedScores
from tests.support.graphs import load


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    graph = load("world")
    return evaluate(TiedScores(graph), graph, split="testing")


def test_parts_are_those_of_their_queries(report: EvaluationReport):
    kinds = report.relation_kinds[report.relations]
    assert len(set(kinds.tolist())) > 1
    name = "adjusted_arithmetic_mean_rank_index"
    for side, number in (("head", 0), ("tail", 2)):
        of_side = report.slots == number
        found = report.per_relation_kind(name, side=side)  # type: ignore[arg-type]
        assert set(found) == set(kinds.tolist())
        for kind, value in found.items():
            chosen = of_side & (kinds == kind)
            expected = metric(name, report.realistic[chosen], report.num_candidates[chosen])
            assert value == expected
    relations = report.per_relation("hits_at_4", rank_type="optimistic")
    assert set(relations) == set(report.relations.tolist())
    for relation, value in relations.items():
        assert value == (report.optimistic[report.relations == relation] <= 4).mean()
        assert value == report.metric("hits_at_4", rank_type="optimistic", relation=relation)


def test_the_table_has_sides_and_relation_kinds(report: EvaluationReport):
    lines = str(report).splitlines()
    assert lines[0].split() == ["queries", "MRR", "hits@1", "hits@3", "hits@10", "MR", "AMRI"]
    row = next(line for line in lines if line.startswith("both")).split()
    assert row[1] == str(len(report))
    assert row[2] == f"{report.metric('inverse_harmonic_mean_rank'):.4f}"
    assert row[6] == f"{report.metric('arithmetic_mean_rank'):.1f}"
    assert any(line.startswith("N-1 tail") for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert len(repr(report)) < 200


def test_json_gives_the_report_back(report: EvaluationReport):
    text = report.to_json()
    again = EvaluationReport.from_json(text)
    assert again == report
    assert hash(again) == hash(report)
    assert again.metrics() == report.metrics()
    assert again.to_json() == text
    document = json.loads(text)
    mrr = document["metrics"]["tail"]["inverse_harmonic_mean_rank"]
    assert mrr == report.metric("inverse_harmonic_mean_rank", side="tail")
    document["optimistic"][0] = 1 if document["optimistic"][0] > 1 else 0
    if document["optimistic"][0]:
        assert EvaluationReport.from_json(json.dumps(document)) != report


@pytest.mark.parametrize(
    "field",
    ["fingerprint", "filter_splits", "slots", "relations", "optimistic", "pessimistic",
     "num_candidates", "relation_kinds"],
)  # fmt: skip
def test_reports_that_differ_anywhere_are_not_equal(report: EvaluationReport, field: str):
    value = getattr(report, field)
    if field == "fingerprint":
        other: Any = value[::-1]
    elif field == "filter_splits":
        other = value[:1]
    else:
        other = value.copy()
        other[-1] = "unseen" if field == "relation_kinds" else value[-1] + 1
    assert replace(report, **{field: other}) != report
    assert replace(report, **{field: value}) == report
    assert report != report.table()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("format", None),
        ("fingerprint", ...),
        ("slots", ...),
        ("slots", [3]),
        ("slots", [300]),
        ("slots", []),
        ("relations", [0.5, "a"]),
        ("relations", [99]),
        ("relations", [-1]),
        ("optimistic", [0]),
        ("optimistic", [2**70]),
        ("pessimistic", [1]),
        ("num_candidates", [4]),
        ("num_candidates", [[9]]),
        ("num_candidates", [9, 9]),
        ("relation_kinds", ["2-2"]),
        ("relation_kinds", 3),
    ],
)
def test_what_is_no_report_is_refused(field: str, value: Any):
    document = {
        "format": 1,
        "fingerprint": "f" * 64,
        "filter_splits": ["training"],
        "relation_kinds": ["1-N"],
        "slots": [2],
        "relations": [0],
        "optimistic": [2],
        "pessimistic": [5],
        "num_candidates": [9],
    }
    assert EvaluationReport.from_json(json.dumps(document)).metric("median_rank") == 3.5
    if value is ...:
        del document[field]
    else:
        document[field] = value
    with pytest.raises(InvalidRequestError):
        EvaluationReport.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"format": 1', b"\xff"])
def test_what_is_no_json_is_refused(text: str | bytes):
    with pytest.raises(InvalidRequestError):
        EvaluationReport.from_json(text)


def test_the_plot_has_a_panel_for_each_relation_kind(report: EvaluationReport, tmp_path: Path):
    import matplotlib as mpl

    path = tmp_path / "ranks.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        report.plot(path)
    text = " ".join(ET.parse(path).getroot().itertext())
    kinds = report.per_relation_kind("count")
    for kind in kinds:
        assert kind in text
        count = round(report.metric("count", side="tail", relation_kind=kind))
        assert f"tail ({count})" in text
    assert "share of queries" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "hits_at_10", "side": "left"}, "side='left'"),
        ({"name": "hits_at_10", "side": "relation"}, "no query has side=relation"),
        ({"name": "hits_at_10", "relation": 999}, "no query has side=both, relation=999"),
        ({"name": "hits_at_10", "relation_kind": "M-N"}, "relation_kind='M-N'"),
        ({"name": "hits_at_10", "rank_type": "average"}, "rank_type='average'"),
        ({"name": "z_hits_at_10", "rank_type": "optimistic"}, "holds for realistic ranks"),
        ({"name": "hit_at_10"}, "did you mean 'hits_at_10'"),
    ],
)
def test_questions_without_an_answer_are_refused(
    report: EvaluationReport, options: dict[str, Any], words: str
):
    with pytest.raises(InvalidRequestError) as refused:
        report.metric(**options)
    assert words in str(refused.value)


def test_numbers_of_queries_add_up(report: EvaluationReport):
    assert sum(report.per_relation("count").values()) == len(report)
    assert sum(report.per_relation_kind("count").values()) == len(report)
    assert np.array_equal(report.realistic * 2, report.optimistic + report.pessimistic)
