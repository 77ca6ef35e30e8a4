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
from negserve.integrations.pykeen.positions import Positions

#: Takes of a worker in a pass, and positions of a take.
TAKES, COUNT = 3, 100

pytestmark = [
    # The test process has threads of other tests' clients, which no forked worker uses.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class Taker(IterableDataset[tuple[int, int]]):
    def __init__(self) -> None:
        self.positions = Positions()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        info = get_worker_info()
        for _ in range(TAKES):
            yield (-1 if info is None else info.id), self.positions.take(COUNT)


def epochs_of(taker: Taker, number: int, **options: Any) -> list[list[tuple[int, int]]]:
    loader = DataLoader(taker, batch_size=None, **options)
    return [list(loader) for _ in range(number)]


def assert_disjoint(epochs: list[list[tuple[int, int]]]) -> None:
    first = [position for epoch in epochs for _, position in epoch]
    taken = {position + i for position in first for i in range(COUNT)}
    assert len(taken) == len(first) * COUNT


def test_the_training_process_counts_from_zero():
    positions = Positions()
    assert [positions.take(5), positions.take(0), positions.take(7)] == [0, 5, 5]
    assert positions.take(1) == 12


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_never_share_a_position(method: str, persistent: bool):
    taker = Taker()
    epochs = epochs_of(
        taker, 2, num_workers=2, multiprocessing_context=method, persistent_workers=persistent
    )
    epochs += epochs_of(taker, 1, num_workers=1, multiprocessing_context="fork")
    epochs += epochs_of(taker, 1)
    assert [len(epoch) for epoch in epochs] == [6, 6, 3, 3]
    assert_disjoint(epochs)


def test_each_run_counts_the_same():
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    assert epochs_of(Taker(), 3, **options) == epochs_of(Taker(), 3, **options)


def test_the_layout_is_the_documented_one():
    taker = Taker()
    epochs = epochs_of(taker, 2, num_workers=2, multiprocessing_context="fork")
    for number, epoch in enumerate(epochs):
        for worker in range(2):
            begin = ((worker + 1) << 53) | (number << 32)
            taken = [position for id_, position in epoch if id_ == worker]
            assert taken == [begin, begin + COUNT, begin + 2 * COUNT]


def test_a_full_pass_is_followed_by_another():
    positions = Positions()
    assert positions.take(2**32 - 1) == 0
    assert positions.take(2) == 2**32
    with pytest.raises(InvalidRequestError, match=str(2**32 + 1)):
        positions.take(2**32 + 1)


def test_the_last_pass_is_the_last():
    positions = Positions()
    positions._passes[0] = 2**21 - 1
    assert positions.take(1) == (2**21 - 1) << 32
    with pytest.raises(InvalidRequestError, match="another seed"):
        positions.take(2**32)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_goes_on_where_the_original_does_not(copied: Any):
    positions = Positions()
    positions.take(5)
    assert copied(positions).take(1) == 2**32
    assert positions.take(1) == 5
    assert torch.equal(copied(positions)._passes, positions._passes)
