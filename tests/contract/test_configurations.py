"""Illegal configurations are refused alike in process and remotely, with field and reason."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from negserve import LimitExceededError, RemoteTriplesFactory, RequestError, SamplerConfig
from negserve._protocol import messages
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.contract.conftest import ALL_SPLITS, Place
from tests.support.graphs import load

RELATIONS = {"corruption_scheme": ("head", "relation")}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "bernoulli relations": ({"kind": "bernoulli", **RELATIONS}, "corruption_scheme", "bernoulli"),
    "typed relations": ({"kind": "typed", **RELATIONS}, "corruption_scheme", "typed"),
    "mixture relations": (
        {"kind": "mixture", "mixture": (("basic", 1), ("pseudotyped", 1)), **RELATIONS},
        "corruption_scheme",
        "pseudotyped",
    ),
    "mixture without parts": ({"kind": "mixture"}, "mixture", "give parts"),
    "parts without mixture": ({"mixture": (("basic", 1),)}, "mixture", "if and only if"),
    "a part twice": (
        {"kind": "mixture", "mixture": (("basic", 1), ("basic", 2))},
        "mixture",
        "different kinds",
    ),
    "a mixture in a mixture": (
        {"kind": "mixture", "mixture": (("mixture", 1),)},
        "mixture",
        "different kinds",
    ),
    "no shares": ({"kind": "mixture", "mixture": (("basic", 0),)}, "mixture", "1 to 65536"),
    "many shares": ({"kind": "mixture", "mixture": (("basic", 65537),)}, "mixture", "1 to 65536"),
    "alpha without degree": ({"alpha": 0.5}, "alpha", "without kind degree"),
    "alpha in a mixture without degree": (
        {"kind": "mixture", "mixture": (("basic", 1),), "alpha": 0.5},
        "alpha",
        "without kind degree",
    ),
    "alpha below 0": ({"kind": "degree", "alpha": -0.1}, "alpha", "0 to 4"),
    "alpha above 4": ({"kind": "degree", "alpha": 4.1}, "alpha", "0 to 4"),
    "alpha that is no number": ({"kind": "degree", "alpha": float("nan")}, "alpha", "0 to 4"),
    "no candidates": ({"candidates": ()}, "candidates", "at least one"),
    "negative candidates": ({"candidates": (3, -1)}, "candidates", "ids of the graph"),
    "candidates out of range": ({"candidates": (3, 2571)}, "candidates", "2571 entities"),
    "candidates out of every range": ({"candidates": (2**40,)}, "candidates", "ids of the graph"),
    "candidates that all weigh nothing": (
        {"kind": "degree", "candidates": "unseen heads", "corruption_scheme": ("head",)},
        "candidates",
        "alpha=0",
    ),
    "mask without splits": ({"filter_mode": "mask"}, "filter_mode", "nothing to flag"),
    "an unknown filter mode": ({"filter_mode": "bloom"}, "filter_mode", "exact, mask"),
    "an unknown kind": ({"kind": "best"}, "kind", "mixture"),
    "distinct by degree": ({"kind": "degree", "distinct": True}, "distinct", "weights"),
    "a distinct mixture": (
        {"kind": "mixture", "mixture": (("basic", 1),), "distinct": True},
        "distinct",
        "mixture",
    ),
    "probabilities of distinct values": ({"distinct": True, "log_q": True}, "log_q", "depend"),
    "typed chunks": ({"kind": "typed", "chunk_size": 2}, "chunk_size", "relation"),
    "pseudo-typed chunks": ({"kind": "pseudotyped", "chunk_size": 2}, "chunk_size", "relation"),
    "chunks of relations and heads": ({"chunk_size": 2, **RELATIONS}, "chunk_size", "entity slot"),
    "chunks with an exact filter": (
        {"chunk_size": 2, "filter_splits": ALL_SPLITS},
        "filter_mode",
        "use mask",
    ),
    "chunks of nothing": ({"chunk_size": 0}, "chunk_size", "1"),
    "chunks too large": ({"chunk_size": 2**20 + 1}, "chunk_size", "1048576"),
    "more distinct values than a chunk has": (
        {"chunk_size": 2, "distinct": True, "num_negs_per_pos": 2572},
        "num_negs_per_pos",
        "",
    ),
    "version 1": ({"algorithm_version": 1}, "algorithm_version", "version 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_field_and_the_remedy(world: Place, case: str):
    options, field, told = REFUSED[case]
    if options.get("candidates") == "unseen heads":
        heads = set(world.graph.mapped_triples[:, 0].tolist())
        options = {**options, "candidates": tuple(set(range(2571)) - heads)[:9]}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its class differs by place
        world.factory.open_sampler(**options)
    error: Any = caught.value
    assert error.reason == "INVALID_CONFIGURATION"
    assert error.metadata["field"] == field
    assert told in error.metadata["expected"]
    assert len(str(error)) < 400


def test_typed_needs_type_constraints(codex: Place):
    with pytest.raises(ValueError, match="no type constraints") as caught:
        codex.factory.open_sampler(kind="typed")
    error: Any = caught.value
    assert error.reason == "INVALID_CONFIGURATION"
    assert error.metadata["field"] == "kind"


def test_large_candidates_fit_a_message(remote_world: Place):
    ids = np.tile(np.arange(2571, dtype="<u2"), 1500)  # 3.9 million, of width 2
    ours = load("world").open_sampler(num_negs_per_pos=9, candidates=ids)
    positives = remote_world.positives(20).numpy()
    factory = remote_world.factory
    assert isinstance(factory, RemoteTriplesFactory)
    # The clients leave repetitions out; those in other languages need not.
    config = messages.encode_config(SamplerConfig(num_negs_per_pos=9))
    config.candidates.CopyFrom(pb.Ids(data=ids.tobytes(), width=2))
    requests = [
        pb.SampleRequest(configuration=pb.SampleConfiguration(dataset="world", sampler=config)),
        pb.SampleRequest(
            positives=pb.Positives(triples=messages.encode_triples(positives, 2571, 29))
        ),
    ]
    with grpc.insecure_channel(factory._transport.replicas.target) as channel:
        answers = list(SamplerServiceStub(channel).Sample(iter(requests), timeout=60))
    replaced = messages.decode_ids(answers[-1].batch.replaced).reshape(20, 9)
    assert (ours.sample(positives, 0).replaced == replaced).all()
    theirs = factory.open_sampler(num_negs_per_pos=9, candidates=ids)
    assert (theirs.sample(positives, 0).replaced == replaced).all()


def test_more_candidates_than_a_message_holds_are_over_a_limit(remote_world: Place):
    with pytest.raises(LimitExceededError, match="larger than max"):
        remote_world.factory.open_sampler(candidates=np.arange(5_000_000))  # 20 MB
    assert issubclass(LimitExceededError, RequestError)
