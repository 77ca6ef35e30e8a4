"""Hugging Face accelerate: its loaders give each triple once over all ranks, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from negserve import Client
from tests.support.programs.ranks import run_program
from tests.support.server_process import ServerProcess
from tests.support.shares import BATCH_SIZE, assert_each_once, assert_same, share

START = 3 * 2 * BATCH_SIZE  # behind three steps of two ranks


@pytest.fixture(scope="module")
def ranks(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of each case on two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    return run_program("with_accelerate", server, folder, num_ranks=2, imports=["accelerate"])


@pytest.fixture(scope="module")
def alone(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of each case in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (results,) = run_program("with_accelerate", server, folder, num_ranks=1)
    return results


def expected(
    client: Client, rank: int, *places: tuple[int, int], world_size: int = 2, **config: Any
) -> Any:
    options = {"rank": rank, "world_size": world_size, **config}
    return [batch for place in places for batch in share(client, *place, **options)]


@pytest.mark.parametrize(
    "name",
    [
        "dispatched_on_purpose",
        "dispatched_from_an_outer_dataset",
        "dispatched_from_a_chain",
        "dispatched_from_all_on_each_rank",
        "not_prepared",
        "own_loader_dispatched_not",
        "own_loader_kept_with_the_rest",
    ],
)
def test_an_epoch(client: Client, ranks: list[dict[str, Any]], alone: dict[str, Any], name: str):
    assert_each_once(*(results[name] for results in ranks))
    for rank, results in enumerate(ranks):
        assert_same(results[name], expected(client, rank, (0, 0)))
    assert_same(alone[name], expected(client, 0, (0, 0), world_size=1))


@pytest.mark.parametrize(
    "name",
    [
        "dispatched",
        "dispatched_from_workers",
        "dispatched_from_persistent_workers",
        "own_loader",
    ],
)
def test_two_epochs(client: Client, ranks: list[dict[str, Any]], alone: dict[str, Any], name: str):
    for rank, results in enumerate(ranks):
        assert_same(results[name], expected(client, rank, (0, 0), (1, 0)))
    assert_same(alone[name], expected(client, 0, (0, 0), (1, 0), world_size=1))


def test_an_epoch_of_spawned_workers(client: Client, ranks: list[dict[str, Any]]):
    name = "dispatched_from_spawned_workers"
    assert_each_once(*(results[name] for results in ranks))
    for rank, results in enumerate(ranks):
        assert_same(results[name], expected(client, rank, (0, 0)))


def test_its_own_launcher(server: ServerProcess, client: Client, tmp_path: Path):
    cases = ("dispatched", "own_loader")
    ranks = run_program(
        "with_accelerate", server, tmp_path, num_ranks=2, starts_ranks=True, cases=cases
    )
    for rank, results in enumerate(ranks):
        assert set(results) == set(cases)
        for name in cases:
            assert_same(results[name], expected(client, rank, (0, 0), (1, 0)))


def test_a_remainder_is_dropped(client: Client, ranks: list[dict[str, Any]]):
    name = "dispatched_without_a_remainder"
    for rank, results in enumerate(ranks):
        assert_same(results[name], expected(client, rank, (0, 0), tail="drop"))


def test_batches_are_skipped(client: Client, ranks: list[dict[str, Any]]):
    for rank, results in enumerate(ranks):
        assert_same(results["batches_skipped"], expected(client, rank, (1, START)))


@pytest.mark.parametrize("name", ["a_state_gone_on_from", "a_state_gone_on_from_by_workers"])
def test_a_stream_goes_on_from_a_state(
    client: Client, ranks: list[dict[str, Any]], alone: dict[str, Any], name: str
):
    for rank, results in enumerate(ranks):
        assert_same(results[name], expected(client, rank, (1, START), (2, 0)))
    assert_same(alone[name], expected(client, 0, (1, START), (2, 0), world_size=1))


def test_the_state_of_a_stateful_loader_of_one_process(client: Client, alone: dict[str, Any]):
    name = "stateful_kept_with_the_rest"
    assert_same(alone[name], expected(client, 0, (0, 0), (0, 0), world_size=1))


def test_the_length(ranks: list[dict[str, Any]], alone: dict[str, Any]):
    assert [results["length"] for results in ranks] == [[11, 11, 11]] * 2
    assert alone["length"] == [22, 22, 22]


def test_the_state_within_a_pass_is_refused(ranks: list[dict[str, Any]], alone: dict[str, Any]):
    for results in (*ranks, alone):
        (said,) = results["states"]
        assert "read past the batch that is trained on" in said


def test_an_odd_number_is_not_shared_evenly(ranks: list[dict[str, Any]]):
    for results in ranks:
        assert (
            "would repeat triples: 97 positives are not divisible by 2 ranks"
            in results["of_an_odd_number"]
        )
    name = "of_an_odd_number_without_a_remainder"
    assert_each_once(*(results[name] for results in ranks), num_triples=96)


REFUSALS = {
    "a_state_of_another_epoch": "set_epoch(0), but the loaded state is of epoch=1",
    "a_state_and_skipped_batches": "would skip 3 more batches",
    "of_whole_batches": "give form='tuple'",
    "of_full_batches": "give tail='drop'",
    "of_given_ranks": "accelerate's dispatcher would split that share again",
    "of_batches_of_batches": "give batch_size=None",
    "dispatched_not": "leave the loader out of prepare(), or use negserve.data.TripleLoader",
    "dispatched_not_of_batches": "leave the loader out of prepare()",
    "split": "split_batches=True",
    "stateful": "use_stateful_dataloader=True",
    "stateful_kept_with_the_rest": "use_stateful_dataloader=True",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_uses_that_would_lose_or_repeat_triples_are_refused(ranks: list[dict[str, Any]], name: str):
    for results in ranks:
        assert results[name].startswith("InvalidRequestError: ")
        assert REFUSALS[name] in results[name]


def test_every_case_is_checked(ranks: list[dict[str, Any]]):
    source = Path(__file__).read_text()
    assert all(f'"{name}"' in source for name in ranks[0])
