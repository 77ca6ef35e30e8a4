"""No position is taken twice, however workers are started, and each run counts the same."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from negserve import InvalidRequestError
from negserve.sampling import batch_position
from negserve.sampling.positions import MAX_NUM_WORKERS, Positions
from negserve.sampling.ranks import find_rank
from tests.support import preloaded

#: Takes of a worker in a pass, and positions of a take.
TAKES, COUNT = 3, 100
LAST_PASS = 2**17 - 1


def place(*, rank: int = 0, worker: int | None = None, pass_: int = 0, copy: int | None = None):
    """First position of a lane in the documented layout."""
    lane = 0 if worker is None else worker + 1
    if copy is not None:
        return (rank << 52) + (1025 << 41) + (copy << 34)
    return (rank << 52) + (lane << 41) + (pass_ << 24)


pytestmark = [
    # The test process has threads of other tests' clients, which no forked worker uses.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class Taker(IterableDataset[tuple[int, int]]):
    """Returns the worker and the first position of each take."""

    def __init__(self, chunk_size: int = 1, begin: int | None = None, count: int = COUNT) -> None:
        self.positions = Positions(chunk_size)
        self.begin = begin
        self.count = count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        info = get_worker_info()
        if self.begin is not None:
            self.positions.position += self.begin
        for _ in range(TAKES):
            yield (-1 if info is None else info.id), self.positions.take(self.count)


def epochs_of(taker: Taker, number: int, **options: Any) -> list[list[tuple[int, int]]]:
    if options:
        options = {"multiprocessing_context": "fork", "timeout": 60, **options}
    loader = DataLoader(taker, batch_size=None, **options)
    return [[(worker, position) for worker, position in loader] for _ in range(number)]


def assert_disjoint(epochs: list[list[tuple[int, int]]]) -> None:
    first = [position for epoch in epochs for _, position in epoch]
    taken = {position + i for position in first for i in range(COUNT)}
    assert len(taken) == len(first) * COUNT


def test_the_training_process_counts_from_zero():
    positions = Positions(chunk_size=1000)
    assert [positions.take(5), positions.take(0), positions.take(7)] == [0, 5, 5]
    assert positions.position == 12
    positions.position = 2**40
    assert positions.take(2**33) == 2**40
    assert positions.position == 2**40 + 2**33


@pytest.mark.parametrize(
    ("method", "persistent"), [("fork", False), ("fork", True), ("forkserver", False)]
)
def test_workers_never_share_a_position(method: str, persistent: bool):
    taker = Taker()
    epochs = epochs_of(taker, 1)
    epochs += epochs_of(
        taker, 2, num_workers=2, multiprocessing_context=method, persistent_workers=persistent
    )
    epochs += epochs_of(taker, 1, num_workers=1)
    epochs += epochs_of(taker, 1)
    assert [len(epoch) for epoch in epochs] == [3, 6, 6, 3, 3]
    assert_disjoint(epochs)


def test_each_run_counts_the_same_whatever_the_seed_of_torch():
    torch.manual_seed(1)
    epochs = epochs_of(Taker(), 3, num_workers=2)
    torch.manual_seed(2)
    assert epochs_of(Taker(), 3, num_workers=2) == epochs


@pytest.mark.parametrize("chunk_size", [1, 1000])
def test_the_layout_is_the_documented_one(chunk_size: int):
    epochs = epochs_of(Taker(chunk_size), 2, num_workers=2)
    for number, epoch in enumerate(epochs):
        for worker in range(2):
            begin = place(worker=worker, pass_=number)
            begin = -(-begin // chunk_size) * chunk_size
            taken = [position for id_, position in epoch if id_ == worker]
            assert taken == [begin, begin + COUNT, begin + 2 * COUNT]


def test_a_position_may_be_set_in_a_worker():
    ((first, second, third),) = epochs_of(Taker(begin=2**40), 1, num_workers=1)
    assert first == (0, place(worker=0) + 2**40)
    assert (second[1], third[1]) == (first[1] + COUNT, first[1] + 2 * COUNT)


def test_a_full_pass_is_followed_by_another():
    taker = Taker(count=2**23 + 1)
    (epoch,) = epochs_of(taker, 1, num_workers=1)
    assert epoch == [(0, place(worker=0, pass_=number)) for number in range(TAKES)]
    assert epochs_of(taker, 1, num_workers=1)[0][0] == (0, place(worker=0, pass_=TAKES))


def test_more_positions_than_a_pass_has_are_refused():
    with pytest.raises(InvalidRequestError, match=str(2**24 + 1)):
        epochs_of(Taker(count=2**24 + 1), 1, num_workers=1)
    with pytest.raises(InvalidRequestError, match="another seed"):
        Positions().take(2**41 + 1)
    taker = Taker()
    taker.positions._passes[0] = LAST_PASS
    assert epochs_of(taker, 1, num_workers=1)[0][0] == (0, place(worker=0, pass_=LAST_PASS))
    with pytest.raises(InvalidRequestError, match="another seed"):
        epochs_of(taker, 1, num_workers=1)


def test_too_many_workers_are_refused(monkeypatch: pytest.MonkeyPatch):
    class Info:
        id, num_workers = MAX_NUM_WORKERS, MAX_NUM_WORKERS + 1

    monkeypatch.setattr("negserve.sampling.positions.get_worker_info", Info)
    with pytest.raises(InvalidRequestError, match="num_workers=1025"):
        Positions(1).take(1)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_copies_within_a_process_count_together(copied: Any):
    taker = Taker()
    epochs = epochs_of(taker, 1, num_workers=1)
    taker.positions.take(5)
    copied_taker = copied(taker)
    assert [it.positions.take(2) for it in (copied_taker, taker, copied_taker)] == [5, 7, 9]
    epochs += epochs_of(copied_taker, 1, num_workers=1)
    assert_disjoint(epochs + epochs_of(taker, 1, num_workers=1))


def taken_in(method: str, positions: Positions, number: int) -> list[int]:
    """Take positions in one process after another, none of them a worker of a DataLoader."""
    context = torch.multiprocessing.get_context(method)
    results = context.SimpleQueue()
    taken = []
    for _ in range(number):
        process = context.Process(target=_take, args=(positions, results))
        process.start()
        taken += [results.get(), results.get()]
        process.join()
    return taken


def _take(positions: Positions, results: Any) -> None:
    for _ in range(2):
        results.put(positions.take(COUNT))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_copies_in_other_processes_have_places_of_their_own(method: str):
    for _ in range(2 if method == "fork" else 1):  # each run counts the same
        positions = Positions()
        assert positions.take(COUNT) == 0
        taken = taken_in(method, positions, 2)
        assert taken == [place(copy=i) + j * COUNT for i in range(2) for j in range(2)]
        assert positions.take(COUNT) == COUNT


def pickled_elsewhere(program: str, positions: Positions, **environment: str) -> str:
    """Run a program in a separate process that only gets pickled bytes."""
    unpickle = "import pickle, sys\np = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
    result = preloaded.run(
        ["-c", unpickle + program, pickle.dumps(positions).hex()],
        timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    return result.stdout + result.stderr


def test_a_pickle_for_several_processes_needs_a_rank():
    positions = Positions()
    positions.take(5)
    said = pickled_elsewhere("p.take(1)", positions)
    assert "InvalidRequestError" in said
    assert "rank and world_size" in said
    # What settles it: the rank, positions, or the state of the sampler that is gone.
    assert pickled_elsewhere("print(p.take(1))", positions, RANK="2", WORLD_SIZE="3") == (
        f"{place(rank=2, copy=1)}\n"
    )
    assert pickled_elsewhere("p.position = 77; print(p.take(1))", positions) == "77\n"
    program = f"p.load_state_dict({positions.state_dict()!r}); print(p.take(1))"
    assert pickled_elsewhere(program, positions) == "5\n"


def test_a_sampler_that_a_worker_makes_for_itself_is_refused():
    class Maker(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            yield Positions().take(1)

    loader = DataLoader(Maker(), batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(InvalidRequestError, match="training process"):
        list(loader)


LAUNCHERS = [
    {"RANK": "3", "WORLD_SIZE": "4"},
    {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"},
    {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "9"},
    {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"},
    {"PMI_RANK": "3", "PMI_SIZE": "4"},
    {"RANK": "3", "WORLD_SIZE": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},
]


@pytest.mark.parametrize("variables", LAUNCHERS, ids=str)
def test_a_launched_rank_counts_in_its_own_range(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_rank()[:2] == (3, 4)
    assert Positions().take(5) == place(rank=3)
    taker = Taker(1000)
    ((first, *_),) = epochs_of(taker, 1, num_workers=1)
    begin = place(rank=3, worker=0)
    assert first == (0, begin + -begin % 1000)


def test_a_given_rank_takes_precedence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Positions(1, 1, 2).take(5) == place(rank=1)
    assert Positions(1, 0, 1).take(5) == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "init_process_group"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK='2'"),
        ({"WORLD_SIZE": "two", "RANK": "1"}, "WORLD_SIZE='two'"),
        ({"SLURM_NTASKS": "4"}, "SLURM_PROCID"),
        ({"RANK": "4096", "WORLD_SIZE": "5000"}, "4096"),
    ],
)
def test_a_launcher_without_a_rank_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequestError, match=said):
        Positions().take(1)


@pytest.mark.parametrize(
    ("rank", "world_size", "said"),
    [(1, None, "give both"), (None, 2, "give both"), (2, 2, "rank=2"), (-1, 2, "rank=-1")],
)
def test_a_rank_without_a_world_size_is_refused(rank: Any, world_size: Any, said: str):
    with pytest.raises(InvalidRequestError, match=said):
        Positions(1, rank, world_size)
    with pytest.raises(InvalidRequestError, match=said):
        batch_position(0, 0, batch_size=1, num_batches=1, rank=rank, world_size=world_size)


def test_a_state_keeps_the_place_of_training_process_and_workers():
    taker = Taker()
    epochs = epochs_of(taker, 2, num_workers=2) + epochs_of(taker, 1)
    state = json.loads(json.dumps(taker.positions.state_dict()))
    going_on = epochs_of(taker, 2, num_workers=2) + epochs_of(taker, 1)
    other = Taker()
    other.positions.load_state_dict(state)
    assert epochs_of(other, 2, num_workers=2) + epochs_of(other, 1) == going_on
    assert_disjoint(epochs + going_on)
    # A numbering of one's own is kept, too.
    other.positions.position = 2**64 - 3
    third = Positions()
    third.load_state_dict(other.positions.state_dict())
    assert third.position == 2**64 - 3


def test_a_state_is_the_same_on_every_rank():
    states = []
    for rank in range(2):
        positions = Positions(1, rank, 2)
        positions.take(7)
        states.append(positions.state_dict())
    assert states[0] == states[1]
    positions = Positions(1, 1, 2)
    positions.load_state_dict(states[0])
    assert positions.take(1) == place(rank=1) + 7


@pytest.mark.parametrize(
    "state",
    [
        {}, {"number": 1}, {"number": "x", "passes": [], "copies": 0},
        {"number": -1, "passes": [], "copies": 0}, {"number": 0, "passes": [-1], "copies": 0},
        {"number": 0, "passes": [0] * 1025, "copies": 0},
        {"number": 2**42, "passes": [], "copies": 0},
        {"number": 0, "passes": [], "copies": 0, "position": 2**65}, None,
    ],
    ids=lambda state: str(state)[:40],
)  # fmt: skip
def test_malformed_states_are_refused(state: Any):
    with pytest.raises(InvalidRequestError, match="not a state"):
        Positions().load_state_dict(state)


def test_a_position_outside_the_range_is_refused():
    for position in (-1, 2**64):
        with pytest.raises(InvalidRequestError, match=str(position)):
            Positions().position = position


def test_batch_positions_never_repeat():
    sizes = {"batch_size": 3, "num_batches": 4, "world_size": 2}
    taken = [
        batch_position(epoch, batch, rank=rank, **sizes) + i
        for epoch in range(3) for batch in range(4) for rank in range(2) for i in range(3)
    ]  # fmt: skip
    assert sorted(taken) == list(range(3 * 4 * 2 * 3))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": -1}, "epoch=-1"), ({"batch": 4}, "batch=4; give 0 to 3"),
        ({"batch_size": 0}, "batch_size=0"), ({"num_batches": 0}, "num_batches=0"),
        ({"epoch": 2**63}, "another seed"),
    ],
)  # fmt: skip
def test_batch_numbers_out_of_range_are_refused(given: dict[str, int], said: str):
    numbers = {"epoch": 0, "batch": 0, "batch_size": 3, "num_batches": 4, **given}
    epoch, batch = numbers.pop("epoch"), numbers.pop("batch")
    with pytest.raises(InvalidRequestError, match=said):
        batch_position(epoch, batch, **numbers)
