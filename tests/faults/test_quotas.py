"""A trainer whose stream a quota has ended goes on by itself, with equal bytes."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from negserve import Client
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.admission.test_authentication import bearing
from tests.server.messages import TIMEOUT, configuration, positives, refusal
from tests.support.graphs import load
from tests.support.server_process import server_process

TOKEN = "trainer-0123456789abcdef"


def test_a_client_waits_for_its_turn_within_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its turn comes after more than the 10 seconds that a server delays a message."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        f'[[token]]\nname = "trainer"\ntoken = "{TOKEN}"\nscopes = ["sample"]\n'
        "negatives_per_second = 1000\n"
    )
    triples = load("world").mapped_triples[:100]
    expected = load("world").open_sampler(num_negs_per_pos=150).sample(triples, 0)
    monkeypatch.setenv("NEGSERVE_TOKEN", TOKEN)
    with (
        server_process("--token-file", str(tokens)) as server,
        grpc.insecure_channel(server.target) as channel,
        Client(server.target, timeout=60) as client,
    ):
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=150)
        assert np.array_equal(sampler.sample(triples, 0).replaced, expected.replaced)
        stranded = SamplerServiceStub(channel).Sample(
            iter([configuration(), positives()]),
            timeout=TIMEOUT,
            metadata=bearing(f"Bearer {TOKEN}"),
        )
        assert refusal(stranded)[1] == "QUOTA_EXCEEDED"
        assert np.array_equal(sampler.sample(triples, 0).replaced, expected.replaced)
