"""Every metric is that of PyKEEN's own evaluator, on equal scores."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from negserve.evaluation import METRIC_NAMES, EvaluationReport, evaluate, metric
from tests.support.graphs import load

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # PyG itself uses torch.jit.script
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.metrics.ranking import rank_based_metric_resolver
    from pykeen.models import ComplEx, DistMult, TransE
    from pykeen.triples import CoreTriplesFactory

MODELS = {"transe": TransE, "distmult": DistMult, "complex": ComplEx}
GRAPHS = ("world", "umls", "codex-s")
BATCH_SIZE = 128
NUM_TRIPLES = 500


def trained(name: str, graph_name: str) -> Any:
    """Make a model with random weights, some of which are rounded so that scores tie."""
    graph = load(graph_name)
    factory = CoreTriplesFactory(
        torch.from_numpy(graph.mapped_triples.copy()), graph.num_entities, graph.num_relations
    )
    model = MODELS[name](triples_factory=factory, embedding_dim=4, random_seed=5)
    if name == "transe":
        for parameter in model.parameters():
            parameter.data = parameter.data.mul(3).round()
    return model


@functools.cache
def both(name: str, graph_name: str) -> tuple[EvaluationReport, dict[tuple[str, str, str], float]]:
    graph, model = load(graph_name), trained(name, graph_name)
    splits = {split: torch.from_numpy(rows.copy()) for split, rows in graph.splits.items()}
    theirs = RankBasedEvaluator().evaluate(
        model,
        splits["testing"][:NUM_TRIPLES],
        batch_size=BATCH_SIZE,
        additional_filter_triples=list(splits.values()),
        use_tqdm=False,
    )
    mine = evaluate(model, graph, splits["testing"][:NUM_TRIPLES], batch_size=BATCH_SIZE)
    # PyKEEN gives adjusted hits of all k one name; those of the last k, 10, are left.
    return mine, {
        (key.side, key.rank_type, key.metric.replace("at_k", "at_10")): value
        for key, value in theirs.data.items()
    }


@pytest.mark.parametrize("graph_name", GRAPHS)
@pytest.mark.parametrize("name", MODELS)
def test_reports_agree_metric_by_metric(name: str, graph_name: str):
    mine, theirs = both(name, graph_name)
    lost = {f"{prefix}_hits_at_{k}" for prefix in ("adjusted", "z") for k in (1, 3, 5)}
    assert {metric for _, _, metric in theirs} == set(METRIC_NAMES) - lost
    if name == "transe":
        assert (mine.optimistic < mine.pessimistic).any(), "no ties: nothing is shown"
    num_compared = 0
    for side in ("head", "tail", "both"):
        for rank_type in ("optimistic", "realistic", "pessimistic"):
            found = mine.metrics(side=side, rank_type=rank_type)  # type: ignore[arg-type]
            for key in found.keys() - lost:
                # PyKEEN keeps realistic ranks as float32; a z-score divides their rounding by a
                # small deviation. The test below compares in float64.
                tolerance = 2e-4 if key.startswith("z_") else 2e-6
                expected = pytest.approx(theirs[side, rank_type, key], rel=2e-5, abs=tolerance)
                assert found[key] == expected, key
                num_compared += 1
    assert num_compared == sum(
        rank_type == "realistic" or not key.startswith(("adjusted_", "z_"))
        for _, rank_type, key in theirs
    )


def theirs_of(name: str) -> Any:
    prefix, hits, k = name.rpartition("hits_at_")
    if hits:
        return rank_based_metric_resolver.make(f"{prefix}hits_at_", k=int(k))
    return rank_based_metric_resolver.make(name)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 3000), min_size=2, max_size=30).flatmap(
        lambda counts: st.tuples(
            st.just(counts), st.tuples(*(st.integers(2, 2 * count) for count in counts))
        )
    ),
    st.sampled_from([*METRIC_NAMES, "hits_at_7", "adjusted_hits_at_2", "z_hits_at_100"]),
)
def test_metrics_of_any_ranks_are_those_of_pykeen(
    drawn: tuple[list[int], tuple[int, ...]], name: str
):
    counts, doubled = np.array(drawn[0]), np.array(drawn[1]) / 2
    if name == "z_geometric_mean_rank" and counts.max() > 100:
        counts, doubled = np.minimum(counts, 100), np.minimum(doubled, 50)
    expected = theirs_of(name)(ranks=doubled, num_candidates=counts)
    if np.isnan(expected) or abs(expected) > 1e8:  # theirs divides by a rounding error
        return
    assert metric(name, doubled, counts) == pytest.approx(expected, rel=1e-6, abs=1e-9)
