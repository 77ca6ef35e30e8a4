"""Pinned candidate sets: manifests, what is drawn for them, and their files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from negserve import (
    FingerprintMismatchError,
    InvalidRequestError,
    ManifestMismatchError,
    SamplerConfig,
)
from negserve.evaluation import EvaluationSet
from negserve.evaluation.candidate_sets.evaluation_set import ALGORITHM_VERSION
from negserve_server import sampling
from negserve_server.graph import TriplesFactory
from tests.support.graphs import load

ALL: Any = ("training", "validation", "testing")
UNIFORM = SamplerConfig(num_negs_per_pos=20, filter_splits=ALL, distinct=True, seed=7)
#: Fixed for good: who published this manifest published these candidates.
GOLDEN = (
    '{"format":"negserve evaluation set","version":1,"fingerprint":'
    '"1f82a745f032d6dd21fc90d1ee4e500e50e4ee9c637ab38fbfa6b1ec6820d0c4","split":"testing",'
    '"triples":"9732678afd79bf1e67842d981f50b20ae5e4856bfc08f7348ed1c0d689156a21",'
    '"num_triples":300,"sampler":{"num_negs_per_pos":20,"filter_splits":["training",'
    '"validation","testing"],"distinct":true,"seed":7,"algorithm_version":2},'
    '"num_saturated":{"head":0,"tail":0},"digest":'
    '"031b030a7af9efbffe20bab40852dfe1577fa9ba2cfe8208e75ed34b4ab33df2"}'
)


@pytest.fixture(scope="module")
def pinned() -> EvaluationSet:
    return EvaluationSet.create(load("world"), UNIFORM, split="testing")


def test_the_manifest_and_what_it_stands_for_are_pinned(pinned: EvaluationSet):
    assert pinned.to_json() == GOLDEN
    assert len(GOLDEN) < 500


def test_the_digest_is_that_of_the_documented_bytes(pinned: EvaluationSet):
    graph = load("world")
    digest = hashlib.sha256(b"negserve candidates 1\n")
    for slot, side in enumerate(("head", "relation", "tail")):
        if side == "relation":
            continue
        sampler = graph.open_sampler(
            num_negs_per_pos=20,
            corruption_scheme=(side,),
            filter_splits=ALL,
            distinct=True,
            seed=7,
        )
        for row, triple in enumerate(graph.splits["testing"]):
            drawn = sampler.sample(triple[None], slot * 2**62 + row)
            assert drawn.mask is not None
            digest.update(triple.astype("<u4").tobytes())
            digest.update(drawn.replaced[0].astype("<u4").tobytes())
            digest.update(drawn.mask[0].astype("u1").tobytes())
    assert digest.hexdigest() == pinned.digest


def test_the_version_of_the_sampling_function_is_pinned(pinned: EvaluationSet):
    assert pinned.sampler.algorithm_version == ALGORITHM_VERSION == sampling.ALGORITHM_VERSION


@pytest.mark.parametrize("batch_size", [1, 7, 300, 1000])
def test_the_size_of_batches_changes_nothing(pinned: EvaluationSet, batch_size: int):
    batches = list(pinned.batches(load("world"), batch_size=batch_size))  # compares the digest
    assert sum(map(len, batches)) == pinned.num_queries == 600
    assert [batch.side for batch in batches] == sorted(batch.side for batch in batches)


def test_the_order_of_the_triples_changes_nothing(pinned: EvaluationSet):
    graph = load("world")
    triples = np.random.default_rng(0).permutation(np.repeat(graph.splits["testing"], 2, axis=0))
    assert EvaluationSet.create(graph, UNIFORM, triples=triples) == pinned
    rows = np.concatenate([each.positives for each in pinned.batches(graph, triples=triples)])
    assert np.array_equal(rows[:300], graph.splits["testing"])


@pytest.mark.parametrize(
    "options",
    [
        {"distinct": True},
        {"kind": "typed", "distinct": True},
        {"kind": "pseudotyped"},
        {"kind": "degree", "alpha": 0.5},
        {"kind": "mixture", "mixture": (("basic", 1), ("typed", 2))},
        {"candidates": tuple(range(100)), "corruption_scheme": ("tail",)},
        {"corruption_scheme": ("head", "relation", "tail")},
    ],
    ids=str,
)
def test_no_candidate_is_known(options: dict[str, Any]):
    graph = load("world")
    config = SamplerConfig(num_negs_per_pos=30, filter_splits=ALL, seed=3, **options)
    made = EvaluationSet.create(graph, config, split="validation")
    assert EvaluationSet.from_json(made.to_json()) == made
    num_incomplete = dict.fromkeys(made.sides, 0)
    for batch in made.batches(graph):
        triples = batch.triples()[batch.mask]
        assert not graph.contains(triples, ALL).any()
        num_incomplete[batch.side] += int((~batch.mask.all(axis=1)).sum())
        if options.get("distinct"):
            for ids, mask in zip(batch.candidates, batch.mask, strict=True):
                assert len(set(ids[mask].tolist())) == mask.sum()
    assert num_incomplete == dict(made.num_saturated)


def test_sides_and_rows_are_drawn_apart(pinned: EvaluationSet):
    found = {}
    for batch in pinned.batches(load("world"), batch_size=1000):
        found[batch.side] = batch.candidates
    assert (found["head"] == found["tail"]).mean() < 0.05
    assert pinned.position(5, "tail") == 2**63 + 5


def test_what_has_too_few_candidates_is_told():
    triples = [[0, 0, tail] for tail in range(1, 9)]
    graph = TriplesFactory({"training": triples}, num_entities=10, num_relations=1)
    config = SamplerConfig(num_negs_per_pos=5, filter_splits=("training",), distinct=True)
    made = EvaluationSet.create(graph, config, split="training")
    assert dict(made.num_saturated) == {"head": 0, "tail": 8}
    (head, tail) = made.batches(graph)
    assert head.mask.all()
    assert tail.mask.sum(axis=1).tolist() == [2] * 8  # 0 and 9 alone are unknown tails


def test_another_graph_or_other_triples_are_refused(pinned: EvaluationSet):
    graph = load("world")
    other = TriplesFactory(
        {"training": graph.mapped_triples},
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
    )
    with pytest.raises(FingerprintMismatchError, match=other.fingerprint):
        pinned.batches(other, triples=graph.splits["testing"])
    with pytest.raises(FingerprintMismatchError, match="299 triples"):
        pinned.batches(graph, triples=graph.splits["testing"][1:])


def test_candidates_that_are_not_those_of_the_manifest_are_refused(pinned: EvaluationSet):
    forged = json.loads(pinned.to_json())
    forged["sampler"]["seed"] = 8
    with pytest.raises(ManifestMismatchError, match=pinned.digest):
        list(EvaluationSet.from_json(json.dumps(forged)).batches(load("world")))
    forged = json.loads(pinned.to_json())
    forged["num_saturated"]["tail"] = 1
    with pytest.raises(ManifestMismatchError, match="num_saturated"):
        list(EvaluationSet.from_json(json.dumps(forged)).batches(load("world")))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"filter_splits": ()}, "filter_splits"),
        ({"filter_mode": "mask"}, "filter_mode"),
        ({"chunk_size": 2, "filter_mode": "mask"}, "filter_mode"),
        ({"log_q": True}, "log_q"),
    ],
)
def test_what_can_not_be_pinned_is_refused(options: dict[str, Any], field: str):
    config = SamplerConfig(**{"num_negs_per_pos": 5, "filter_splits": ALL, **options})
    with pytest.raises(InvalidRequestError, match=field):
        EvaluationSet.create(load("world"), config, split="testing")


def test_either_a_split_or_triples_are_given():
    graph = load("world")
    for options in ({}, {"split": "testing", "triples": [[0, 0, 0]]}, {"split": "test"}):
        with pytest.raises(InvalidRequestError, match="split"):
            EvaluationSet.create(graph, UNIFORM, **options)  # type: ignore[arg-type]


def test_the_graph_of_an_asyncio_client_is_refused():
    class Asyncio:
        async def known(self, *_: Any) -> None: ...

    graph: Any = Asyncio()
    with pytest.raises(InvalidRequestError, match=r"take it from negserve\.Client"):
        EvaluationSet.create(graph, UNIFORM, triples=[[0, 0, 0]])


WRONG: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({})
)


@given(
    field=st.sampled_from(sorted(json.loads(GOLDEN))),
    inner=st.sampled_from([None, *json.loads(GOLDEN)["sampler"], "num_negs", "mixture"]),
    value=WRONG,
)
def test_a_manifest_is_read_as_it_was_written_or_refused(
    field: str, inner: str | None, value: object
):
    manifest = json.loads(GOLDEN)
    if inner is None:
        manifest[field] = value
    else:
        manifest["sampler"][inner] = value
    text = json.dumps(manifest)
    try:
        read = EvaluationSet.from_json(text)
    except InvalidRequestError:
        return
    assert EvaluationSet.from_json(read.to_json()) == read


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version=2 is not legal: this package reads 1; update it"),
        ({"version": "1"}, "update it"),
        ({"version": True}, "update it"),
        ({"sides": ["head"]}, "sides="),
        ({"num_triples": -1}, "num_triples=-1"),
        ({"num_triples": 10**30}, "num_triples=1"),
        ({"digest": "F" * 64}, "digest="),
        ({"num_saturated": {"head": 0}}, "num_saturated="),
        ({"num_saturated": {"head": 0, "tail": 301}}, "num_saturated=301"),
        ({"split": "x" * 1_000_000, "sampler": {}}, "algorithm_version"),
        ({"y" * 1_000_000: 1}, "a manifest has"),
        ({"digest": "0" * 1_000_000}, "give 64"),
        ({"sampler": {"filter_splits": ["training"] * 100_000}}, "algorithm_version"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_what_is_wrong_in_a_manifest_is_named_in_a_few_words(change: dict[str, Any], words: str):
    with pytest.raises(InvalidRequestError) as refused:
        EvaluationSet.from_json(json.dumps({**json.loads(GOLDEN), **change}))
    assert words in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_other_ways_to_give_triples_make_the_same_set(pinned: EvaluationSet):
    graph = load("world")
    triples = torch.from_numpy(graph.splits["testing"].copy()).int()
    assert EvaluationSet.create(graph, UNIFORM, triples=triples) == pinned
    with pytest.raises(InvalidRequestError, match="tail id 9999 of row 0"):
        EvaluationSet.create(graph, UNIFORM, triples=[[0, 0, 9999]])


@pytest.mark.parametrize("text", ["", "[]", "{}", '"x"', "[" * 100_000, GOLDEN[:-1]])
def test_what_is_no_manifest_is_refused(text: str):
    with pytest.raises(InvalidRequestError):
        EvaluationSet.from_json(text)
