"""Scores as the evaluators of OGB and TGB take them: what these find are our ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from negserve import InvalidRequestError, SamplerConfig
from negserve.evaluation import EvaluationSet, evaluator_input, ranks
from tests.support.evaluators.ogb import linkproppred as ogb
from tests.support.evaluators.tgb.linkproppred import evaluate as tgb
from tests.support.graphs import load

INF, NAN = float("inf"), float("nan")
#: Few values, so that ties are frequent, and all that compares strangely.
SCORES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, INF, -INF, NAN])


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    n, m = draw(st.integers(1, 4)), draw(st.integers(0, 12))

    def rows(values: st.SearchStrategy[Any], dtype: torch.dtype) -> Tensor:
        flat = draw(st.lists(values, min_size=n * m, max_size=n * m))
        return torch.tensor(flat, dtype=dtype).view(n, m)

    dtype = draw(st.sampled_from([torch.float16, torch.float32, torch.float64]))
    targets = torch.tensor(draw(st.lists(SCORES, min_size=n, max_size=n)), dtype=dtype)
    return targets, rows(SCORES, dtype), rows(st.booleans(), torch.bool)


@given(scored())
def test_their_ranks_are_ours(drawn: tuple[Tensor, Tensor, Tensor]):
    targets, candidates, mask = drawn
    before = targets.clone(), candidates.clone()
    theirs = evaluator_input(targets, candidates, mask)
    found = ogb.Evaluator(name="ogbl-wikikg2").eval(theirs)
    ours = ranks(candidates, target_scores=targets, excluded=~mask).realistic
    assert torch.equal(found["mrr_list"], 1 / ours.float())
    for k in (1, 3, 10):
        assert torch.equal(found[f"hits@{k}_list"], (ours <= k).float())
    means = tgb.Evaluator(name="tkgl-smallpedia").eval({**theirs, "eval_metric": ["mrr"]})
    assert means["mrr"] == pytest.approx((1 / ours).mean().item())
    assert means["hits@10"] == pytest.approx((ours <= 10).double().mean().item())
    for tensor, copy in zip((targets, candidates), before, strict=True):
        assert torch.equal(tensor.nan_to_num(7), copy.nan_to_num(7))
    # Where the target is a number, all that counts is passed on as it is.
    row = targets > -INF
    assert torch.equal(theirs["y_pred_pos"][row], targets[row])
    assert torch.equal(
        theirs["y_pred_neg"][row].nan_to_num(7),
        candidates[row].masked_fill(~mask[row], -INF).nan_to_num(7),
    )
    assert theirs["y_pred_neg"].dtype == candidates.dtype


def test_pinned_candidates_where_some_are_missing():
    """What a query lacks is not among its candidates."""
    world = load("world")
    config = SamplerConfig(
        num_negs_per_pos=world.num_entities, corruption_scheme=("tail",), distinct=True,
        filter_splits=("training", "validation", "testing"),
    )  # fmt: skip
    testing = world.splits["testing"][:4]
    pinned = EvaluationSet.create(world, config, triples=testing)
    (batch,) = pinned.batches(world, triples=testing)
    assert not batch.mask.all(axis=1).any()
    worst = evaluator_input(-np.ones(len(batch)), np.zeros(batch.mask.shape), batch.mask)
    found = ogb.Evaluator(name="ogbl-wikikg2").eval(worst)
    assert torch.equal(1 / found["mrr_list"], 1 + torch.from_numpy(batch.mask).sum(dim=1).float())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t, c, m: (t, c.long(), m), "candidate_scores have shape .* and dtype torch.int64"),
        (lambda t, c, m: (t, c[0], m), r"give floating numbers of shape \(n, m\)"),
        (lambda t, c, m: (t[1:], c, m), "give one for each of the 2 rows"),
        (lambda t, c, m: (t[:, None], c, m), r"target_scores have shape \(2, 1\)"),
        (lambda t, c, m: (t.double(), c, m), "dtype torch.float64; give .* as torch.float32"),
        (lambda t, c, m: (t, c, m.long()), "mask has shape .* and dtype torch.int64; give bools"),
        (lambda t, c, m: (t, c, m[:, 1:]), r"give bools of shape \(2, 3\)"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[..., tuple[Tensor, Tensor, Tensor]], text: str):
    legal = torch.zeros(2), torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(InvalidRequestError, match=text):
        evaluator_input(*change(*legal))
