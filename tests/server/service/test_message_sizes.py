"""Sizes of answers: at most gRPC's default limit, and few bytes a negative."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from negserve import EpochConfig, SamplerConfig
from negserve._protocol import messages as client_messages
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.config.limits import Limits
from negserve_server.sampling import CorruptedBatch
from negserve_server.service import messages
from tests.support.graphs import graph_path
from tests.support.server_process import server_process

GRPC_DEFAULT = 4 * 1024 * 1024
LIMITS = Limits()


@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 255, 256, 2**16])
def test_the_largest_batch_fits(k: int, log_q: bool):
    assert k <= LIMITS.negatives_per_positive(log_q)
    n = min(LIMITS.negatives_per_message(log_q) // k, LIMITS.max_triples_per_message)
    counts = np.full(n, max(k // 2, 1), dtype=np.uint32)
    batch = CorruptedBatch(
        position=2**64 - n,
        replaced=np.full((n, k), 2**32 - 1, dtype=np.uint32),
        head_counts=counts,
        relation_counts=counts,
        mask=np.zeros((n, k), dtype=np.bool_),
        num_saturated=n,
        log_q=np.ones((n, k), dtype=np.float32) if log_q else None,
    )
    message = pb.SampleResponse(batch=messages.encode_batch(batch))
    assert message.ByteSize() <= GRPC_DEFAULT
    assert bool(message.batch.log_q) == log_q


@pytest.mark.parametrize("k", [10, 11])
def test_a_positive_fits_a_message_with_log_probabilities(k: int):
    limits = Limits(max_negatives_per_positive=20, max_negatives_per_message=21)
    assert limits.negatives_per_positive(False) == 20
    assert (k <= limits.negatives_per_positive(True)) == (k == 10)


def test_an_epoch_takes_few_bytes_a_negative():
    """Positives, counts and all else of the messages included; ids of two bytes."""
    sampler = SamplerConfig(kind="bernoulli", num_negs_per_pos=64, filter_splits=("training",))
    config = EpochConfig(batch_size=1024)
    request = client_messages.encode_epoch_request("fb15k-237", "", sampler, config, 0, 0)
    options = ("--dataset", f"fb15k-237={graph_path('fb15k-237')}", "--log-level", "warning")
    num_bytes = num_positives = 0
    with server_process(*options) as server, grpc.insecure_channel(server.target) as channel:
        for message in SamplerServiceStub(channel).SampleEpoch(request, timeout=120):
            num_bytes += message.ByteSize()
            num_positives = max(num_positives, message.configured.num_positives)
    assert num_positives == 272_115
    assert num_bytes / (64 * num_positives) <= 2.3
