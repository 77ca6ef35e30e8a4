"""Illegal configurations get the right status and reason; legal ones are answered in full."""

from __future__ import annotations

import pytest

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, TIMEOUT, configuration, ids, positives, refusal

PART = pb.MixturePart(kind=pb.SAMPLER_KIND_BASIC, shares=2)

BAD_CONFIGURATIONS = {
    "positives first": (positives(), CODE.FAILED_PRECONDITION, "STREAM_OUT_OF_ORDER", "positives"),
    "unknown dataset": (
        configuration(dataset="moon"),
        CODE.NOT_FOUND,
        "UNKNOWN_DATASET",
        "moon",
    ),
    "wrong fingerprint": (
        configuration(expected_fingerprint="ab" * 32),
        CODE.FAILED_PRECONDITION,
        "FINGERPRINT_MISMATCH",
        "ab" * 32,
    ),
    "no sampler": (
        configuration(sampler={"kind": 0}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "0",
    ),
    "unknown sampler": (
        configuration(sampler={"kind": 99}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "99",
    ),
    "k = 0": (
        configuration(sampler={"num_negs_per_pos": 0}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "0",
    ),
    "huge k": (
        configuration(sampler={"num_negs_per_pos": 2**32 - 1}),
        CODE.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        str(2**32 - 1),
    ),
    "slot 0": (
        configuration(sampler={"corruption_scheme": [0]}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "0",
    ),
    "a slot twice": (
        configuration(sampler={"corruption_scheme": [pb.SLOT_HEAD, pb.SLOT_HEAD]}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "('head', 'head')",
    ),
    "Bernoulli with relations": (
        configuration(
            sampler={
                "kind": pb.SAMPLER_KIND_BERNOULLI,
                "corruption_scheme": [pb.SLOT_HEAD, pb.SLOT_RELATION],
            }
        ),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "('head', 'relation')",
    ),
    "split 7": (
        configuration(sampler={"filter_splits": [7]}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "7",
    ),
    "future version": (
        configuration(sampler={"algorithm_version": 3}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "3",
    ),
    "past version": (
        configuration(sampler={"algorithm_version": 1}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "1",
    ),
    "more slots than there are": (
        configuration(sampler={"corruption_scheme": [pb.SLOT_HEAD] * 100_000}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "100000 values",
    ),
    "more splits than there are": (
        configuration(sampler={"filter_splits": [pb.SPLIT_TRAINING] * 100_000}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "100000 values",
    ),
    "more parts than there are kinds": (
        configuration(sampler={"kind": pb.SAMPLER_KIND_MIXTURE, "mixture": [PART] * 50_000}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "50000 values",
    ),
    "a mixture of no kind": (
        configuration(
            sampler={"kind": pb.SAMPLER_KIND_MIXTURE, "mixture": [pb.MixturePart(shares=1)]}
        ),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "0",
    ),
    "no shares": (
        configuration(
            sampler={
                "kind": pb.SAMPLER_KIND_MIXTURE,
                "mixture": [pb.MixturePart(kind=pb.SAMPLER_KIND_BASIC)],
            }
        ),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "(('basic', 0),)",
    ),
    "parts of another kind": (
        configuration(sampler={"mixture": [PART]}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "(('basic', 2),)",
    ),
    "alpha of another kind": (
        configuration(sampler={"alpha": 0.5}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "0.5",
    ),
    "alpha that is no number": (
        configuration(sampler={"kind": pb.SAMPLER_KIND_DEGREE, "alpha": float("nan")}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "nan",
    ),
    "candidates without ids": (
        configuration(sampler={"candidates": pb.Ids()}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "()",
    ),
    "candidates of an unknown width": (
        configuration(sampler={"candidates": pb.Ids(data=b"abc", width=3)}),
        CODE.INVALID_ARGUMENT,
        "INVALID_ID_WIDTH",
        "3",
    ),
    "half a candidate": (
        configuration(sampler={"candidates": pb.Ids(data=b"abc", width=2)}),
        CODE.INVALID_ARGUMENT,
        "INVALID_ID_WIDTH",
        "3",
    ),
    "a candidate outside the graph": (
        configuration(sampler={"candidates": ids(5, 2571)}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "2571",
    ),
    "a candidate of 64 bits": (
        configuration(sampler={"candidates": ids(5, 2**64 - 1, width=8)}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        str(2**64 - 1),
    ),
    "an unknown filter mode": (
        configuration(sampler={"filter_mode": 9, "filter_splits": [pb.SPLIT_TRAINING]}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "9",
    ),
    "a mask of nothing": (
        configuration(sampler={"filter_mode": pb.FILTER_MODE_MASK}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "mask",
    ),
    "a huge chunk": (
        configuration(sampler={"chunk_size": 2**32 - 1}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        str(2**32 - 1),
    ),
    "distinct draws with probabilities": (
        configuration(sampler={"distinct": True, "log_q": True}),
        CODE.INVALID_ARGUMENT,
        "INVALID_CONFIGURATION",
        "True",
    ),
}


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
def test_bad_configuration(stub: SamplerServiceStub, case: str):
    request, *expected, value = BAD_CONFIGURATIONS[case]
    code, reason, metadata, _ = refusal(stub.Sample(iter([request]), timeout=TIMEOUT))
    assert [code, reason] == expected
    assert metadata["value"] == value


def test_defaults_are_filled_in(stub: SamplerServiceStub):
    degree = configuration(sampler={"kind": pb.SAMPLER_KIND_DEGREE, "candidates": ids(1055, 1325)})
    (answer,) = stub.Sample(iter([degree]), timeout=TIMEOUT)
    assert answer.configured.sampler == pb.SamplerConfig(
        kind=pb.SAMPLER_KIND_DEGREE,
        num_negs_per_pos=4,
        corruption_scheme=[pb.SLOT_HEAD, pb.SLOT_TAIL],
        algorithm_version=2,
        alpha=0.75,
        filter_mode=pb.FILTER_MODE_EXACT,
        chunk_size=1,
    )
