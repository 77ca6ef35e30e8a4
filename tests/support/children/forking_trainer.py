"""A training process whose loaders fork workers after the process has used gRPC.

``python -m tests.support.children.forking_trainer TARGET CASE FILE``: runs one of the functions
below and writes what it gives to the file, as tensors.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from negserve import Client, SamplerConfig
from negserve.data import TripleStream
from negserve.sampling import BernoulliNegativeSampler

SAMPLER = SamplerConfig(kind="bernoulli", num_negs_per_pos=5, filter_splits=("training",), seed=3)
NUM_WORKERS = 3
NUM_EPOCHS = 2
NUM_THREADS = 2
NUM_MORE_LOADERS = 2
POSITIVE = (7, 3, 11)
NUM_COPIES = 60


def loader_of(data: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        data, num_workers=NUM_WORKERS, multiprocessing_context="fork", timeout=30, **options
    )


def stream_by_address(client: Client) -> Iterator[tuple[torch.Tensor, ...]]:
    """An epoch stream that connects in the workers."""
    return _epochs(TripleStream(client.targets, "world", SAMPLER, batch_size=400, form="tuple"))


def stream_of_a_used_factory(client: Client) -> Iterator[tuple[torch.Tensor, ...]]:
    """An epoch stream over a factory that the process has used before."""
    world = client.triples_factory("world")
    return _epochs(TripleStream(world, sampler=SAMPLER, batch_size=400, form="tuple"))


def _epochs(stream: TripleStream) -> Iterator[tuple[torch.Tensor, ...]]:
    for epoch in range(NUM_EPOCHS):
        stream.set_epoch(epoch)
        yield from loader_of(stream, batch_size=None)


def collate_with_positions(client: Client) -> Iterator[tuple[torch.Tensor, ...]]:
    """A sampler in the collate function, with given positions."""
    sampler = BernoulliNegativeSampler(client.triples_factory("world"), 5, filtered=True, seed=3)
    sampler.sample(torch.tensor([POSITIVE]))
    triples = training_triples(client)

    def collate(indices: list[int]) -> tuple[torch.Tensor, ...]:
        positives = triples[indices]
        return positives, *sampler.sample(positives, position=indices[0])

    for _ in range(NUM_EPOCHS):
        yield from loader_of(range(len(triples)), batch_size=400, collate_fn=collate)
        sampler.sample(torch.tensor([POSITIVE]))


def collate(client: Client) -> Iterator[tuple[torch.Tensor, ...]]:
    """A sampler in the collate function, which counts by itself."""
    sampler = BernoulliNegativeSampler(client.triples_factory("world"), 5, seed=3)
    sampler.sample(torch.tensor([POSITIVE]))

    def with_negatives(rows: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        positives = torch.stack(rows)
        return positives, sampler.sample(positives)[0]

    for _ in range(NUM_EPOCHS):
        data = torch.tensor([POSITIVE] * NUM_COPIES)
        yield from loader_of(data, batch_size=4, collate_fn=with_negatives)


def sampling_meanwhile(client: Client) -> Iterator[tuple[torch.Tensor, ...]]:
    """Threads of the training process sample while workers are forked."""
    world = client.triples_factory("world")
    positives = torch.tensor([POSITIVE] * 500)
    is_over = threading.Event()
    counts, errors = [0] * NUM_THREADS, []

    def keep_sampling(number: int) -> None:
        try:
            sampler = BernoulliNegativeSampler(world, 5, filtered=True, seed=number)
            wanted = sampler.sample(positives, position=0)[0]
            while not is_over.is_set():
                assert torch.equal(sampler.sample(positives, position=0)[0], wanted)
                counts[number] += 1
        except BaseException as error:
            errors.append(error)

    def wait_for_all() -> None:
        """Check that all threads continue after each fork."""
        seen = list(counts)
        while any(now == then for now, then in zip(counts, seen, strict=True)) and not errors:
            is_over.wait(0.001)

    threads = [
        threading.Thread(target=keep_sampling, args=(number,)) for number in range(NUM_THREADS)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(NUM_MORE_LOADERS):
            stream = TripleStream(client.targets, "world", SAMPLER, batch_size=2000, form="tuple")
            for _ in loader_of(stream, batch_size=None):
                wait_for_all()
        for batch in stream_by_address(client):
            yield batch
            wait_for_all()
    finally:
        is_over.set()
        for thread in threads:
            thread.join(30)
    if errors:
        raise errors[0]


def training_triples(client: Client) -> torch.Tensor:
    """The graph's training triples, shape (n, 3), in their order without shuffling."""
    stream = TripleStream(client.targets, "world", SAMPLER, form="tuple", shuffle=False)
    return torch.cat([item[0] for item in stream])


CASES = {
    case.__name__: case
    for case in (
        stream_by_address,
        stream_of_a_used_factory,
        collate_with_positions,
        collate,
        sampling_meanwhile,
    )
}


def main() -> None:
    # Torch and Python warn of threads and of few cores.
    warnings.simplefilter("ignore")
    target, case, path = sys.argv[1:]
    with Client(target, timeout=20) as client:
        client.list_datasets()
        columns = zip(*CASES[case](client), strict=True)
        torch.save([torch.cat(column) for column in columns], path)


if __name__ == "__main__":
    main()
