"""Each metric changes by what a user did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from negserve import Client, EpochConfig, InvalidRequestError, SamplerConfig
from tests.support.scraping import Scraper, scraped_server

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
    positives = np.zeros((BATCH, 3), dtype=np.int64)
    sampler = client.triples_factory("world").open_sampler(kind="basic", num_negs_per_pos=K)
    for number in range(BATCHES):
        sampler.sample(positives, number * BATCH)
    sampler.close()
    labels = {"dataset": "world", "kind": "basic"}
    scraper.wait(BATCHES * BATCH, "negserve_positives_total", **labels)
    scraper.wait(BATCHES * BATCH * K, "negserve_negatives_total", **labels)
    scraper.wait(1, "negserve_calls_total", rpc="Sample", code="OK")
    for stage in ("queue", "draw", "encode", "send"):
        scraper.wait(BATCHES, "negserve_stage_seconds_count", stage=stage)
        assert scraper.value("negserve_stage_seconds_sum", stage=stage) > 0
    sent = scraper.value("negserve_sent_bytes_total", rpc="Sample")
    assert sent > BATCHES * BATCH * K * 2  # an id has 2 bytes
    received = scraper.value("negserve_received_bytes_total", rpc="Sample")
    assert received > BATCHES * BATCH * 3


def test_negatives_of_epochs_are_counted(scraper: Scraper, client: Client):
    factory = client.triples_factory("world")
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=K)
    for _ in factory.epochs(config, EpochConfig(batch_size=BATCH)):
        pass
    labels = {"dataset": "world", "kind": "bernoulli"}
    scraper.wait(factory.num_triples, "negserve_positives_total", **labels)
    scraper.wait(factory.num_triples * K, "negserve_negatives_total", **labels)
    scraper.wait(1, "negserve_calls_total", rpc="SampleEpoch", code="OK")


def test_refusals_are_counted_by_reason(scraper: Scraper, client: Client):
    sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=K)
    with pytest.raises(InvalidRequestError):
        sampler.sample(np.full((1, 3), 10**6), 0)
    scraper.wait(1, "negserve_refusals_total", reason="ENTITY_ID_OUT_OF_RANGE")
    scraper.wait(1, "negserve_calls_total", rpc="Sample", code="INVALID_ARGUMENT")
