"""Requests, and the refusals that they get."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.status import DOMAIN
from tests.support.descriptors import assert_parsable

CODE = grpc.StatusCode
TIMEOUT = 20


def configuration(**changes: Any) -> pb.SampleRequest:
    sampler = {"kind": pb.SAMPLER_KIND_BASIC, "num_negs_per_pos": 4, **changes.pop("sampler", {})}
    return pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            **{"dataset": "world", "sampler": pb.SamplerConfig(**sampler), **changes}
        )
    )


def known_configuration(**changes: Any) -> pb.KnownRequest:
    """Make the first message of ``Known``: for tails of training."""
    fields = {"dataset": "world", "splits": [pb.SPLIT_TRAINING], "slot": pb.SLOT_TAIL, **changes}
    return pb.KnownRequest(configuration=pb.KnownConfiguration(**fields))


def ids(*values: int, width: int = 4) -> pb.Ids:
    return pb.Ids(data=np.array(values, dtype=f"<u{width}").tobytes(), width=width)


def positives(
    heads: pb.Ids | None = None,
    relations: pb.Ids | None = None,
    tails: pb.Ids | None = None,
    position: int = 0,
) -> pb.SampleRequest:
    triples = pb.Triples(
        heads=heads or ids(1), relations=relations or ids(1), tails=tails or ids(2)
    )
    return pb.SampleRequest(positives=pb.Positives(position=position, triples=triples))


def refusal(answers: Any) -> tuple[grpc.StatusCode, str, dict[str, str], str]:
    """Read answers until the refusal."""
    with pytest.raises(grpc.RpcError) as caught:
        for _ in answers:
            pass
    error = caught.value
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()}: {error.details()} carries no details"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == DOMAIN
    assert_parsable(info.metadata)
    return error.code(), info.reason, dict(info.metadata), error.details()
