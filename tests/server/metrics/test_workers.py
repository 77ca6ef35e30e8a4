"""Metrics of several workers are one server's, whichever of them answers and which were killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from negserve import Client
from tests.support.scraping import Scraper, scraped_server
from tests.support.workers import worker_pids

K, BATCH = 4, 16
LABELS = {"dataset": "world", "kind": "basic"}


def draw(scraper: Scraper, num_clients: int) -> int:
    """Draw through connections of their own, and return how many positives."""
    positives = np.zeros((BATCH, 3), dtype=np.int64)
    for _ in range(num_clients):
        with Client(scraper.server.target) as client:
            client.triples_factory("world").open_sampler(num_negs_per_pos=K).sample(positives, 0)
    return num_clients * BATCH


def test_workers_add_up_and_a_killed_one_loses_nothing(tmp_path: Path):
    with scraped_server(tmp_path / "log", "--workers", "2") as scraper:
        scraper.wait(2, "negserve_workers")
        drawn = draw(scraper, 8)
        scraper.wait(drawn, "negserve_positives_total", **LABELS)
        for number, victim in enumerate(worker_pids(scraper.server), 1):
            before = scraper.samples()
            os.kill(victim, signal.SIGKILL)
            scraper.wait(number, "negserve_worker_restarts_total")
            after = scraper.samples()
            lost = {
                key: (value, after.get(key))
                for key, value in before.items()
                if key[0].endswith(("_total", "_count", "_sum", "_bucket"))
                and after.get(key, 0) < value
            }
            assert not lost
            scraper.wait(2, "negserve_workers")
        drawn += draw(scraper, 8)
        scraper.wait(drawn, "negserve_positives_total", **LABELS)
        scraper.wait(drawn * K, "negserve_negatives_total", **LABELS)
