"""Ranks of targets, and masks of known answers, against a naive loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from negserve import InvalidRequestError, KnownValues
from negserve.evaluation import KnownIndex, known, mask_known, ranks
from negserve_server.graph import TriplesFactory
from tests.client.evaluation.naive import naive_ranks

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
#: Few values, so that there are ties; all are exact in each dtype.
SCORES = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf, math.nan])


@dataclass
class Case:
    """Scores of n queries, targets, and what does not count, in all forms."""

    scores: Tensor
    targets: Tensor
    target_scores: Tensor
    excluded: list[set[int]]

    @property
    def known(self) -> KnownIndex:
        width = np.uint8
        values = KnownValues(
            np.array([len(each) for each in self.excluded], dtype=np.int64),
            np.array([column for each in self.excluded for column in sorted(each)], dtype=width),
        )
        return KnownIndex.of(values, self.scores.shape[1])

    @property
    def mask(self) -> Tensor:
        mask = torch.zeros(self.scores.shape, dtype=torch.bool)
        for row, columns in enumerate(self.excluded):
            mask[row, list(columns)] = True
        return mask

    def expected(self, *, is_candidate: bool) -> list[tuple[int, int, int]]:
        found = []
        for row, scores in enumerate(self.scores.tolist()):
            target = int(self.targets[row])
            own = scores[target] if is_candidate else float(self.target_scores[row])
            others = set(range(len(scores))) - self.excluded[row]
            if is_candidate:
                others -= {target}
            found.append(naive_ranks(scores, own, others))
        return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n, m = draw(st.integers(0, 5)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(DTYPES))
    rows = draw(st.lists(st.lists(SCORES, min_size=m, max_size=m), min_size=n, max_size=n))
    columns = st.integers(0, m - 1)
    return Case(
        scores=torch.tensor(rows, dtype=dtype).reshape(n, m),
        targets=torch.tensor(draw(st.lists(columns, min_size=n, max_size=n)), dtype=torch.int64),
        target_scores=torch.tensor(draw(st.lists(SCORES, min_size=n, max_size=n)), dtype=dtype),
        excluded=draw(st.lists(st.sets(columns), min_size=n, max_size=n)),
    )


def columns_of(found: Any) -> list[tuple[int, int, int]]:
    parts = (found.optimistic, found.pessimistic, found.num_candidates)
    assert all(part.dtype == torch.int64 for part in parts)
    return list(zip(*(part.tolist() for part in parts), strict=True))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_ranks_are_those_of_a_loop(case: Case):
    before = case.scores.clone()
    twice = case.mask.nonzero().repeat(2, 1)
    for targets, is_candidate in (
        ({"targets": case.targets}, True),
        ({"target_scores": case.target_scores}, False),
    ):
        expected = case.expected(is_candidate=is_candidate)
        for excluded in (case.mask, case.known, (twice[:, 0], twice[:, 1])):
            found = ranks(case.scores, **targets, excluded=excluded)
            assert columns_of(found) == expected
            realistic = [(optimistic + pessimistic) / 2 for optimistic, pessimistic, _ in expected]
            assert found.realistic.tolist() == realistic
    assert torch.equal(case.scores.nan_to_num(nan=9), before.nan_to_num(nan=9))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_without_exclusions_all_candidates_count(case: Case):
    case.excluded = [set() for _ in case.excluded]
    assert columns_of(ranks(case.scores, case.targets)) == case.expected(is_candidate=True)
    nobody = torch.zeros(case.scores.shape[1], dtype=torch.bool)
    for excluded in (nobody, case.known):
        found = ranks(case.scores, case.targets, excluded=excluded)
        assert columns_of(found) == case.expected(is_candidate=True)


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_known_answers_other_than_the_target_are_overwritten(case: Case, data: st.DataObject):
    n, m = case.scores.shape
    value = data.draw(st.sampled_from([-math.inf, -7.0]))
    scores = case.scores.nan_to_num(nan=3)
    expected = [
        [
            value if column in case.excluded[row] and column != int(case.targets[row]) else score
            for column, score in enumerate(scores[row].tolist())
        ]
        for row in range(n)
    ]
    changed = scores.clone()
    assert mask_known(changed, case.known, case.targets, value=value) is changed
    assert changed.tolist() == expected
    # Any candidates in any order, some of them twice.
    width = data.draw(st.integers(1, 6))
    candidates = torch.randint(m, (n, width), generator=torch.Generator().manual_seed(n))
    part = scores.gather(1, candidates)
    mask_known(part, case.known, case.targets, candidates=candidates, value=value)
    assert part.tolist() == [
        [expected[row][column] for column in candidates[row].tolist()] for row in range(n)
    ]


def test_a_diverged_model_ranks_last_and_not_first():
    scores = torch.full((2, 10), math.nan)
    scores[1, :4] = 1.0
    found = ranks(scores, torch.tensor([3, 9]))
    assert columns_of(found) == [(10, 10, 10), (10, 10, 10)]


def test_ties_of_minus_infinity_are_not_mistaken_for_what_is_excluded():
    scores = torch.tensor([[-math.inf, -math.inf, -math.inf, 1.0]])
    found = ranks(scores, torch.tensor([0]), excluded=torch.tensor([False, True, False, False]))
    assert columns_of(found) == [(2, 3, 3)]


def test_a_hub_among_pairs_without_known_values():
    num_ids, size = 70_000, 60_000
    graph = TriplesFactory(
        {"training": np.stack([np.zeros(size), np.zeros(size), np.arange(size)], 1).astype(int)},
        num_entities=num_ids,
        num_relations=1,
    )
    pairs = np.array([[5, 0], [0, 0], [6, 0]])
    index = known(graph, torch.from_numpy(pairs), "tail", ("training",))
    assert index.rows.tolist() == [1] * size
    scores = torch.arange(num_ids, dtype=torch.float32).repeat(3, 1)
    found = ranks(scores, torch.tensor([7, 7, 7]), excluded=index)
    above = num_ids - 8
    assert columns_of(found) == [
        (above + 1, above + 1, num_ids),
        (num_ids - size + 1, num_ids - size + 1, num_ids - size + 1),
        (above + 1, above + 1, num_ids),
    ]


SIX = torch.zeros((2, 3))
AT = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scores": SIX.long(), "targets": AT}, "floating"),
        ({"scores": SIX[0], "targets": AT}, "(n, m)"),
        ({"scores": SIX}, "give either targets"),
        ({"scores": SIX, "targets": AT, "target_scores": SIX[:, 0]}, "give either targets"),
        ({"scores": SIX, "targets": AT + 2}, "the target of row 1 is column 3 of 3"),
        ({"scores": SIX, "targets": AT - 1}, "the target of row 0 is column -1 of 3"),
        ({"scores": SIX, "targets": AT.float()}, "integers of shape (2,)"),
        ({"scores": SIX, "targets": AT[:1]}, "integers of shape (2,)"),
        ({"scores": SIX, "target_scores": SIX[:, 0].half()}, "breaks ties"),
        ({"scores": SIX, "targets": AT, "excluded": SIX}, "give bools of shape (2, 3) or (3,)"),
        ({"scores": SIX, "targets": AT, "excluded": (AT, AT[:1])}, "equal shape (k,)"),
        ({"scores": SIX, "targets": AT, "excluded": (AT, AT + 2)}, "a position outside"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], words: str):
    with pytest.raises(InvalidRequestError) as refused:
        ranks(**arguments)
    assert words in str(refused.value)


def test_known_answers_of_other_queries_are_refused():
    index = KnownIndex.of(KnownValues(np.array([1, 1]), np.array([2, 2], np.uint8)), 4)
    for use in (
        lambda: ranks(SIX, AT, excluded=index),
        lambda: mask_known(SIX.clone(), index, AT),
        lambda: mask_known(SIX.clone(), index, AT[:1]),
        lambda: mask_known(SIX.clone(), index, AT, candidates=AT.unsqueeze(1)),
        lambda: index.contains(torch.tensor([[0], [4]])),
        lambda: index.contains(torch.tensor([[0]])),
    ):
        with pytest.raises(InvalidRequestError):
            use()
