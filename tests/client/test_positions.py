"""No position is taken twice, whatever starts workers, and each run counts the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from negserve import InvalidRequestError
from negserve.sampling.positions import MAX_NUM_WORKERS, Positions

#: Takes of a worker in a pass, and positions of a take.
TAKES, COUNT = 3, 100
LAST_PASS = 2**21 - 1

pytestmark = [
    # The test process has threads of other tests' clients, which no forked worker uses.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class Taker(IterableDataset[tuple[int, int]]):
    """Gives the worker, and the first position of each take."""

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


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("method", ["fork", "spawn"])
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
            begin = ((worker + 1) << 53) + (number << 32)
            begin = -(-begin // chunk_size) * chunk_size
            taken = [position for id_, position in epoch if id_ == worker]
            assert taken == [begin, begin + COUNT, begin + 2 * COUNT]


def test_a_worker_may_be_told_where_to_begin():
    ((first, second, third),) = epochs_of(Taker(begin=2**40), 1, num_workers=1)
    assert first == (0, 2**53 + 2**40)
    assert (second[1], third[1]) == (first[1] + COUNT, first[1] + 2 * COUNT)


def test_a_full_pass_is_followed_by_another():
    taker = Taker(count=2**31 + 1)
    assert epochs_of(taker, 1, num_workers=1) == [[(0, 2**53 + (i << 32)) for i in range(TAKES)]]
    assert epochs_of(taker, 1, num_workers=1)[0][0] == (0, 2**53 + (TAKES << 32))


def test_what_no_pass_has_room_for_is_refused():
    with pytest.raises(InvalidRequestError, match=str(2**32 + 1)):
        epochs_of(Taker(count=2**32 + 1), 1, num_workers=1)
    taker = Taker()
    taker.positions._passes[0] = LAST_PASS
    assert epochs_of(taker, 1, num_workers=1)[0][0] == (0, 2**53 + (LAST_PASS << 32))
    with pytest.raises(InvalidRequestError, match="another seed"):
        epochs_of(taker, 1, num_workers=1)


def test_too_many_workers_are_refused(monkeypatch: pytest.MonkeyPatch):
    class Info:
        id, num_workers = MAX_NUM_WORKERS, MAX_NUM_WORKERS + 1

    monkeypatch.setattr("negserve.sampling.positions.get_worker_info", Info)
    with pytest.raises(InvalidRequestError, match="num_workers=1025"):
        Positions(1).take(1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_goes_on_where_the_original_was(copied: Any):
    taker = Taker()
    epochs = epochs_of(taker, 1, num_workers=1)
    taker.positions.take(5)
    copied_taker = copied(taker)
    assert copied_taker.positions.take(1) == taker.positions.take(1) == 5
    assert_disjoint(epochs + epochs_of(copied_taker, 1, num_workers=1))
