"""Lightning on two ranks: its loaders give each triple once, and resume where they stopped."""

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
    # Optimizers import the second one.
    imports = ["lightning", "torch._dynamo"]
    return run_program("with_lightning", server, folder, num_ranks=2, imports=imports)


@pytest.mark.parametrize(
    "name",
    [
        "own_loader",
        "own_loader_resumed",
        "own_loader_with_workers_resumed",
        "plain_loader",
        "stateful_loader_resumed",
    ],
)
def test_two_epochs(client: Client, ranks: list[dict[str, Any]], name: str):
    assert_each_once(*(results[name][:11] for results in ranks))
    for rank, results in enumerate(ranks):
        wanted = [share(client, epoch, rank=rank, world_size=2) for epoch in (0, 1)]
        assert_same(results[name], [*wanted[0], *wanted[1]])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain_loader_with_workers", "return negserve.data.TripleLoader from train_dataloader"),
        ("plain_loader_resumed", "return negserve.data.TripleLoader from train_dataloader"),
    ],
)
def test_uses_that_would_repeat_triples_are_refused(
    ranks: list[dict[str, Any]], name: str, message: str
):
    for results in ranks:
        assert results[name].startswith("InvalidRequestError: ")
        assert message in results[name]
