"""A sampler in the workers of a DataLoader: forked ones, and those that get it pickled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    SequentialSampler,
    get_worker_info,
)

from negserve import Client
from negserve.sampling import BernoulliNegativeSampler, NegativeSampler
from tests.support.graphs import load

POSITIVE = (7, 3, 11)
NUM_COPIES, BATCH_SIZE, K, SEED = 24, 4, 5, 2

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class WithNegatives:
    """Workers that are not forked from this process get it pickled, with its sampler."""

    def __init__(self, sampler: NegativeSampler) -> None:
        self.sampler = sampler

    def __call__(self, rows: list[torch.Tensor]) -> torch.Tensor:
        return self.sampler.sample(torch.stack(rows))[0]


class Copies(Dataset[torch.Tensor]):
    """Equal positives, so that equal rows of 5 of 2571 entities mean equal positions."""

    def __init__(self, collate: WithNegatives) -> None:
        self.collate = collate

    def __len__(self) -> int:
        return NUM_COPIES

    def __getitem__(self, indices: list[int]) -> torch.Tensor:
        return self.collate([torch.tensor(POSITIVE) for _ in indices])


def loader_of(
    collate: WithNegatives, method: str, *, num_workers: int = 2, **options: Any
) -> DataLoader[torch.Tensor]:
    data = Copies(collate)
    indices = BatchSampler(SequentialSampler(data), BATCH_SIZE, drop_last=False)
    return DataLoader(
        data,
        sampler=indices,
        batch_size=None,  # a batch is made by the data set
        num_workers=num_workers,
        multiprocessing_context=method,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("method", "persistent"), [("fork", False), ("fork", True), ("forkserver", False)]
)
def test_no_two_workers_or_epochs_draw_at_the_same_positions(
    client: Client, method: str, persistent: bool
):
    world = client.triples_factory("world")
    epochs = []
    # Ranks that draw twice, with spawned workers, are in test_ranks.
    for seed in range(1 if method == "forkserver" else 2):
        torch.manual_seed(seed)
        sampler = BernoulliNegativeSampler(world, K, filtered=True, seed=SEED)
        loader = loader_of(WithNegatives(sampler), method, persistent_workers=persistent)
        rows = torch.cat([batch for _ in range(2) for batch in loader])
        epochs.append(torch.cat([rows, sampler.sample(torch.tensor([POSITIVE]))[0]]))
        assert sampler.position == 1, "the training process counts from 0"
    assert len(torch.unique(epochs[0], dim=0)) == 2 * NUM_COPIES + 1
    assert torch.equal(epochs[0], epochs[-1]), "torch's seeds play no part"


def begin(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.collate.sampler.position = worker * 1000  # type: ignore[union-attr]


def test_a_position_may_be_set_in_a_worker(client: Client):
    world = client.triples_factory("world")
    sampler = BernoulliNegativeSampler(world, K, filtered=True, seed=SEED)
    batches = list(loader_of(WithNegatives(sampler), "fork", worker_init_fn=begin))
    reference = BernoulliNegativeSampler(load("world"), K, filtered=True, seed=SEED)
    positives = torch.tensor([POSITIVE] * BATCH_SIZE)
    for index, batch in enumerate(batches):
        position = index % 2 * 1000 + index // 2 * BATCH_SIZE
        assert torch.equal(batch, reference.sample(positives, position=position)[0])


class PlaceInChunk(WithNegatives):
    def __call__(self, rows: list[torch.Tensor]) -> torch.Tensor:
        return torch.tensor([self.sampler.position % self.sampler.chunk_size])


def test_chunks_begin_whole_in_a_worker(client: Client):
    sampler = BernoulliNegativeSampler(client.triples_factory("world"), K, chunk_size=1000)
    places = torch.cat(list(loader_of(PlaceInChunk(sampler), "fork")))
    assert places.tolist() == [0] * (NUM_COPIES // BATCH_SIZE)
