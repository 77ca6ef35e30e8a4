"""Each metric changes by what a user did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from negserve import Client, EpochConfig, InvalidRequestError, SamplerConfig
from negserve.v1 import admin_pb2
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.metrics.catalogue import METRICS
from tests.server.messages import TIMEOUT, configuration, ids, positives
from tests.support.scraping import Scraper, scraped_server
from tests.support.workers import wait_for

K, BATCH, BATCHES = 8, 32, 5


@pytest.fixture(scope="module")
def scraper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraper]:
    log: Path = tmp_path_factory.mktemp("metrics") / "log"
    with scraped_server(log, "--dataset", "world") as scraper:
        yield scraper


@pytest.fixture
def client(scraper: Scraper) -> Iterator[Client]:
    with Client(scraper.server.target) as connected:
        yield connected


def test_negatives_are_counted_by_dataset_and_kind(scraper: Scraper, client: Client):
    batch = np.zeros((BATCH, 3), dtype=np.int64)
    sampler = client.triples_factory("world").open_sampler(kind="basic", num_negs_per_pos=K)
    for number in range(BATCHES):
        sampler.sample(batch, number * BATCH)
    # The stream stays open: what ends one may come before the note that the last answer was sent.
    labels = {"dataset": "world", "kind": "basic"}
    scraper.wait(BATCHES * BATCH, "negserve_positives_total", **labels)
    scraper.wait(BATCHES * BATCH * K, "negserve_negatives_total", **labels)
    for stage in ("queue", "draw", "encode", "send"):
        scraper.wait(BATCHES, "negserve_stage_seconds_count", stage=stage)
        assert scraper.value("negserve_stage_seconds_sum", stage=stage) > 0
    sent = scraper.value("negserve_sent_bytes_total", rpc="Sample")
    assert sent > BATCHES * BATCH * K * 2  # an id has 2 bytes
    received = scraper.value("negserve_received_bytes_total", rpc="Sample")
    assert received > BATCHES * BATCH * 3
    sampler.close()


def test_negatives_of_epochs_are_counted(scraper: Scraper, client: Client):
    factory = client.triples_factory("world")
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=K)
    stream = factory.epochs(config, EpochConfig(batch_size=BATCH))
    stream.reads_on = False
    for _ in stream:
        pass
    labels = {"dataset": "world", "kind": "bernoulli"}
    scraper.wait(factory.num_triples, "negserve_positives_total", **labels)
    scraper.wait(factory.num_triples * K, "negserve_negatives_total", **labels)
    # A client that has its last batch does not wait for the status.
    codes = "OK", "CANCELLED"
    wait_for(
        lambda: sum(
            scraper.value("negserve_calls_total", rpc="SampleEpoch", code=code) for code in codes
        ) == 1,
        "the end of the call",
    )  # fmt: skip


def test_refusals_are_counted_by_reason(scraper: Scraper, client: Client):
    sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=K)
    with pytest.raises(InvalidRequestError):
        sampler.sample(np.full((1, 3), 10**6), 0)
    scraper.wait(1, "negserve_refusals_total", reason="ENTITY_ID_OUT_OF_RANGE")
    scraper.wait(1, "negserve_calls_total", rpc="Sample", code="INVALID_ARGUMENT")


def test_calls_are_counted_by_their_end(scraper: Scraper):
    before = scraper.value("negserve_calls_total", rpc="Known", code="OK")
    gone = scraper.value("negserve_calls_total", rpc="SampleEpoch", code="CANCELLED")
    with grpc.insecure_channel(scraper.server.target) as channel:
        stub = SamplerServiceStub(channel)
        assert not list(stub.Known(iter(()), timeout=TIMEOUT))
        scraper.wait(before + 1, "negserve_calls_total", rpc="Known", code="OK")
        # More than a connection takes unread.
        sampler = pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=5000)
        request = pb.SampleEpochRequest(dataset="world", sampler=sampler, batch_size=64)
        stream = stub.SampleEpoch(request, timeout=60)
        next(stream)
        scraper.wait(1, "negserve_open_calls")
        stream.cancel()
        scraper.wait(gone + 1, "negserve_calls_total", rpc="SampleEpoch", code="CANCELLED")
        scraper.wait(0, "negserve_open_calls")


def test_masked_negatives_and_saturated_positives_are_counted(scraper: Scraper):
    """Of one candidate, which is the positive's own tail: nothing is legal."""
    request = configuration(
        sampler={
            "corruption_scheme": [pb.SLOT_TAIL],
            "candidates": ids(2),
            "filter_splits": [pb.SPLIT_TRAINING],
            "kind": pb.SAMPLER_KIND_DEGREE,
        }
    )
    with grpc.insecure_channel(scraper.server.target) as channel:
        stub = SamplerServiceStub(channel)
        _, answer = stub.Sample(iter((request, positives())), timeout=TIMEOUT)
    assert answer.batch.num_saturated == 1
    labels = {"dataset": "world", "kind": "degree"}
    scraper.wait(1, "negserve_saturated_positives_total", **labels)
    scraper.wait(4, "negserve_masked_negatives_total", **labels)
    scraper.wait(4, "negserve_negatives_total", **labels)


def test_tables_have_bytes_by_dataset_and_go_for_others(tmp_path: Path):
    options = ("--max-table-bytes", "1MiB", "--table-keep-seconds", "3600")
    with scraped_server(tmp_path / "log", *options) as scraper:
        scraper.wait(2**20, "negserve_table_limit_bytes")
        with Client(scraper.server.target) as client:
            factory = client.triples_factory("world")
            for number in range(60):
                sampler = factory.open_sampler(
                    kind="degree", alpha=0.01 * number, filter_splits=("training", "validation")
                )
                sampler.sample([[0, 0, 1]], 0)
                sampler.close()
        wait_for(lambda: scraper.value("negserve_table_evictions_total") > 0, "an eviction")
        assert 0 < scraper.value("negserve_table_bytes", dataset="world") <= 2**20


def test_answers_that_nobody_takes_and_streams_that_wait_for_them_are_gauged(tmp_path: Path):
    sampler = pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=5000)
    request = pb.SampleEpochRequest(dataset="world", sampler=sampler, batch_size=64)
    gauges = "negserve_ahead_bytes", "negserve_waiting_streams", "negserve_open_calls"
    with (
        scraped_server(tmp_path / "log", "--max-ahead-bytes", "1MiB") as scraper,
        grpc.insecure_channel(scraper.server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)
        # More than a connection takes unread.
        streams = [stub.SampleEpoch(request, timeout=300) for _ in range(4)]
        for name in gauges:
            wait_for(lambda name=name: scraper.value(name) > 0, name)  # type: ignore[misc]
        for stream in streams:
            stream.cancel()
        for name in gauges:
            scraper.wait(0, name)


def test_messages_that_wait_for_a_thread_are_gauged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = tmp_path / "held"
    monkeypatch.setenv("NEGSERVE_TEST_HOLD", str(held))
    sampler = pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=5000)
    request = pb.SampleEpochRequest(dataset="world", sampler=sampler, batch_size=64)
    with (
        scraped_server(
            tmp_path / "log", "--threads", "1", module="tests.support.children.held_server"
        ) as scraper,
        grpc.insecure_channel(scraper.server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)
        scraper.wait(0, "negserve_queued_messages")
        held.touch()
        streams = [stub.SampleEpoch(request, timeout=300) for _ in range(4)]
        # The only thread has a message of one of them.
        wait_for(lambda: scraper.value("negserve_queued_messages") >= 3, "a queue")
        held.unlink()
        for stream in streams:
            next(stream)
            stream.cancel()
        scraper.wait(0, "negserve_queued_messages")


def test_calls_without_a_token_are_counted(tmp_path: Path):
    (tmp_path / "tokens").write_text("a-token-of-the-tests\n")
    (tmp_path / "tokens").chmod(0o600)
    with (
        scraped_server(tmp_path / "log", "--token-file", str(tmp_path / "tokens")) as scraper,
        grpc.insecure_channel(scraper.server.target) as channel,
    ):
        with pytest.raises(grpc.RpcError):
            SamplerServiceStub(channel).GetServer(pb.GetServerRequest(), timeout=TIMEOUT)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/made.up/Method")(b"", timeout=TIMEOUT)
        missing = {"reason": "CREDENTIALS_MISSING"}
        # Who lacks a scope only is known, and refused.
        with pytest.raises(grpc.RpcError):
            AdminServiceStub(channel).LoadDataset(
                admin_pb2.LoadDatasetRequest(name="world"),
                metadata=[("authorization", "Bearer a-token-of-the-tests")],
                timeout=TIMEOUT,
            )
        not_permitted = {"reason": "NOT_PERMITTED"}
        scraper.wait(1, "negserve_refusals_total", **not_permitted)
        assert scraper.value("negserve_authentication_failures_total", **not_permitted) == 0
        scraper.wait(2, "negserve_authentication_failures_total", **missing)
        scraper.wait(2, "negserve_refusals_total", **missing)
        code = "UNAUTHENTICATED"
        assert scraper.value("negserve_calls_total", rpc="GetServer", code=code) == 1
        assert scraper.value("negserve_calls_total", rpc="(unknown)", code=code) == 1


def test_every_metric_is_there_and_the_dataset_with_its_fingerprint(
    scraper: Scraper, client: Client
):
    text = scraper.text()
    for each in METRICS:
        name = each.name.removesuffix("_total") if each.type == "counter" else each.name
        assert f"# TYPE {name}" in text, each.name
    fingerprint = client.triples_factory("world").fingerprint
    labels = {"serial": "1", "origin": "command line", "current": "yes"}
    scraper.wait(1, "negserve_dataset_info", dataset="world", fingerprint=fingerprint, **labels)
    version = client.server_info().version
    assert scraper.value("negserve_build_info", version=version, algorithm_version="2") == 1
    scraper.wait(1, "negserve_workers")
