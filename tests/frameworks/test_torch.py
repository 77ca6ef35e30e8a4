"""torch on two ranks: its distributed checkpoints and its compiler."""

from __future__ import annotations

from typing import Any

import pytest

from negserve import Client
from tests.support.programs.ranks import run_program
from tests.support.server_process import ServerProcess
from tests.support.shares import assert_each_once, assert_same, share


@pytest.fixture(scope="module")
def ranks(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of each case on two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    imports = ["torch._dynamo", "torch.distributed.checkpoint"]
    return run_program("with_torch", server, folder, num_ranks=2, imports=imports)


@pytest.mark.parametrize("name", ["loader_kept", "stream_kept"])
def test_a_distributed_checkpoint_within_an_epoch(
    client: Client, ranks: list[dict[str, Any]], name: str
):
    assert_each_once(*(results[name] for results in ranks))
    for rank, results in enumerate(ranks):
        assert_same(results[name], share(client, 0, rank=rank, world_size=2))


def test_a_compiled_step_takes_an_empty_batch(client: Client, ranks: list[dict[str, Any]]):
    options = {"batch_size": 8, "relations": (3,), "world_size": 2}
    assert_each_once(*(results["compiled"] for results in ranks), num_triples=97)
    for rank, results in enumerate(ranks):
        assert_same(results["compiled"], share(client, 0, rank=rank, **options))
    assert [len(results["compiled"][-1][0]) for results in ranks] == [0, 1]
