"""Ray Train on two workers: each triple once, and resumes from a batch's state."""

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
    # Ray keeps a token in the home directory.
    env = {
        "HOME": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",  # no idle process for each processor
    }
    return run_program("with_ray", server, folder, num_ranks=2, starts_ranks=True, env=env)


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        ("own_loader", (0, 1)),
        ("own_loader_resumed", (0,)),
        ("prepared", (0, 1)),
        ("prepared_resumed", (0,)),
    ],
)
def test_epochs(client: Client, ranks: list[dict[str, Any]], name: str, epochs: tuple[int, ...]):
    assert_each_once(*(results[name][:11] for results in ranks))
    for rank, results in enumerate(ranks):
        wanted = [share(client, epoch, rank=rank, world_size=2) for epoch in epochs]
        assert_same(results[name], [batch for batches in wanted for batch in batches])


def test_the_state_within_a_pass_is_refused(ranks: list[dict[str, Any]]):
    for results in ranks:
        said = results["state_of_a_prepared_stream"]
        assert "read past the batch that is trained on; keep that batch's state" in said
