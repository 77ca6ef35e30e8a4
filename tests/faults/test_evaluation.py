"""An evaluation through the death of its server: an equal report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import Tensor

from negserve import Client
from negserve.evaluation import evaluate
from negserve.types.config import Slot
from tests.client.evaluation.test_evaluate import TiedScores
from tests.faults.conftest import Servers
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess

PATIENCE = 60.0
BATCH_SIZE = 16


@pytest.mark.parametrize("num_bytes", [500, 5000])
def test_a_server_killed_in_the_middle(servers: Servers, steady: ServerProcess, num_bytes: int):
    graph = load("world")
    triples = graph.splits["testing"]
    expected = evaluate(TiedScores(graph), graph, triples)
    server = servers.start()
    num_scored = 0

    def score(pairs: Tensor, slot: Slot, /) -> Tensor:
        nonlocal num_scored
        num_scored += 1
        return TiedScores(graph)(pairs, slot)

    with (
        tcp_proxy(server.target) as proxy,
        Client(proxy.target, timeout=10, patience=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        factory = client.triples_factory("world")
        proxy.cut_after(num_bytes, server.kill)
        waiting = threads.submit(evaluate, score, factory, triples, batch_size=BATCH_SIZE)
        assert proxy.struck.wait(PATIENCE)
        num_batches = 2 * -(-len(triples) // BATCH_SIZE)
        assert num_scored < num_batches
        proxy.lead_to(steady.target)
        assert waiting.result(PATIENCE) == expected
        assert num_scored == num_batches
