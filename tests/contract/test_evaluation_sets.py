"""Pinned candidate sets are the same bytes wherever they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve import SamplerConfig
from negserve.errors import InvalidRequestError
from negserve.evaluation import (
    EvaluationSet,
    candidates_from_ogb,
    negatives_from_triples,
    read_candidates,
    write_candidates,
)
from tests.contract.conftest import ALL_SPLITS, Place, on_graphs

KINDS: dict[str, dict[str, Any]] = {
    "uniform": {"distinct": True},
    "pseudotyped": {"kind": "pseudotyped", "distinct": True},
    "degree": {"kind": "degree"},
    "mixture": {"kind": "mixture", "mixture": (("basic", 1), ("degree", 1))},
}


@on_graphs(kind=tuple(KINDS))
def test_a_manifest_is_the_set_everywhere(place: Place, kind: str, tmp_path: Path):
    graph, triples = place.graph, place.graph.splits["testing"]
    config = SamplerConfig(num_negs_per_pos=8, filter_splits=ALL_SPLITS, seed=11, **KINDS[kind])
    here = EvaluationSet.create(graph, config, split="testing")
    there = EvaluationSet.create(place.factory, config, triples=triples)  # type: ignore[arg-type]
    assert there.to_json() == here.to_json()
    assert sum(map(len, here.batches(place.factory, triples=triples))) == 2 * len(triples)  # type: ignore[arg-type]
    for name in ("here", "there"):
        factory: Any = graph if name == "here" else place.factory
        write_candidates(tmp_path / f"{name}.npz", here, factory, triples=triples)
    tables = [read_candidates(tmp_path / f"{name}.npz")[1] for name in ("here", "there")]
    for side in here.sides:
        assert tables[0].candidates[side].tobytes() == tables[1].candidates[side].tobytes()
        assert tables[0].masks[side].tobytes() == tables[1].masks[side].tobytes()


def test_a_split_by_its_name_needs_a_graph_of_this_process(world: Place, where: str):
    config = SamplerConfig(num_negs_per_pos=4, filter_splits=ALL_SPLITS)
    factory: Any = world.factory
    if where in {"remote", "aio"}:
        with pytest.raises(InvalidRequestError, match="compute='client'"):
            EvaluationSet.create(factory, config, split="testing")
    else:
        assert EvaluationSet.create(factory, config, split="testing").split == "testing"


def test_given_candidates_are_checked_everywhere(world: Place):
    factory: Any = world.factory
    triples = world.graph.splits["testing"][:50]
    tails = world.graph.known(triples[:, :2], "tail", ALL_SPLITS)
    negatives = np.tile(np.arange(world.graph.num_entities), (50, 1))
    given = candidates_from_ogb(
        factory,
        {
            "head": triples[:, 0],
            "relation": triples[:, 1],
            "tail": triples[:, 2],
            "tail_neg": negatives,
        },
    )
    expected = np.array([~np.isin(np.arange(world.graph.num_entities), known) for known in tails])
    assert np.array_equal(given.table.masks["tail"], expected)
    assert given.num_known["tail"] + given.num_targets["tail"] == (~expected).sum() > 0
    assert negatives_from_triples(factory, triples).num_known == 50
