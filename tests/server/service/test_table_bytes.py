"""Memory of a server whose callers request all kinds of configurations."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.cli import main
from tests.server.messages import CODE, configuration, positives, refusal
from tests.support.server_process import ServerProcess, server_process

MIB = 2**20
NUM_ENTITIES = 200_000
BOUND = 48 * MIB
#: What a loaded machine may need; nothing here waits for it.
PATIENCE = 120


@pytest.fixture(scope="module")
def big_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with 100,000 triples, 200,000 entities, and a low bound for tables."""
    file = tmp_path_factory.mktemp("big") / "train.txt"
    file.write_text("".join(f"e{i}\tr{i % 9}\te{i + 100_000}\n" for i in range(100_000)))
    options = ("--dataset", f"world={file}", "--max-table-bytes", f"{BOUND >> 20}MiB")
    with server_process(*options, "--table-keep-seconds", "1") as server:
        yield server


@pytest.fixture
def stub(big_server: ServerProcess) -> Iterator[SamplerServiceStub]:
    with grpc.insecure_channel(big_server.target) as channel:
        yield SamplerServiceStub(channel)


def candidates(seed: int, count: int = 150_000) -> pb.Ids:
    ids = np.random.default_rng(seed).choice(NUM_ENTITIES, count, replace=False)
    return pb.Ids(data=ids.astype("<u4").tobytes(), width=4)


def asked(number: int, **sampler: Any) -> pb.SampleRequest:
    return configuration(
        sampler={
            "candidates": candidates(number),
            "filter_splits": [pb.SPLIT_TRAINING],
            **sampler,
        }
    )


@contextmanager
def held(stub: SamplerServiceStub, request: pb.SampleRequest) -> Iterator[Any]:
    """Keep a stream of a configuration open."""
    requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
    requests.put(request)
    answers = stub.Sample(iter(requests.get, None), timeout=PATIENCE)
    try:
        assert next(answers).WhichOneof("message") == "configured"
        requests.put(positives())
        next(answers)
        yield answers
    finally:
        requests.put(None)
        for _ in answers:
            pass


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_refused_configurations_and_sets_that_come_and_go_leave_nothing(
    big_server: ServerProcess, stub: SamplerServiceStub
) -> None:
    with held(stub, asked(0)):
        pass
    before = big_server.resident_bytes
    highest = before
    for seed in range(1, 25):
        typed = asked(seed, kind=pb.SAMPLER_KIND_TYPED)
        code, reason, *_ = refusal(stub.Sample(iter([typed]), timeout=PATIENCE))
        assert (code, reason) == (CODE.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
        for _ in range(2):
            with held(stub, asked(seed)):
                highest = max(highest, big_server.resident_bytes)
    # Each set takes some 10 MB of tables, and its refusal took 6 MB.
    assert highest - before < 2.5 * BOUND
    wait_until(lambda: big_server.resident_bytes - before < BOUND / 2)


def test_streams_that_need_more_than_there_is_are_refused_until_others_end(
    big_server: ServerProcess, stub: SamplerServiceStub
) -> None:
    opened: list[Any] = []
    try:
        with pytest.raises(grpc.RpcError) as caught:
            for seed in range(100, 200):
                one = held(stub, asked(seed))
                one.__enter__()
                opened.append(one)
        assert caught.value.code() == CODE.RESOURCE_EXHAUSTED
        assert "--max-table-bytes" in caught.value.details()
        assert 2 <= len(opened) < 30
        # Those that have what they need go on, equal configurations share, the usual one is there.
        with held(stub, asked(100)), held(stub, configuration()):
            pass
        code, reason, metadata, _ = refusal(stub.Sample(iter([asked(200)]), timeout=PATIENCE))
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert metadata["resource"] == "table_bytes"
        assert metadata["limit"] == str(BOUND)
        assert int(metadata["value"]) > 0
    finally:
        for one in opened:
            one.__exit__(None, None, None)
    with held(stub, asked(200)):
        pass
    assert big_server.resident_bytes > 0


def test_many_streams_with_equal_candidates_take_the_memory_of_one(
    big_server: ServerProcess, stub: SamplerServiceStub
) -> None:
    with held(stub, asked(300)):
        before = big_server.resident_bytes
        opened = [held(stub, asked(300, seed=seed)) for seed in range(100)]
        for one in opened:
            one.__enter__()
        try:
            # 0.6 MB of candidates in each message, and as much again when they are decoded.
            assert big_server.resident_bytes - before < 40 * MIB
        finally:
            for one in opened:
                one.__exit__(None, None, None)


def test_a_malformed_bound_is_refused() -> None:
    for text, message in (("1KiB", "give at least 1MiB"), ("much", "give a number of bytes")):
        result = CliRunner().invoke(main, ["serve", "--max-table-bytes", text])
        assert result.exit_code == 2
        assert message in result.output
