"""The triples that the ranks of a training must receive, as loaders of tuples give them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from negserve import Client, EpochConfig, SamplerConfig

SAMPLER = SamplerConfig(num_negs_per_pos=4, filter_splits=("training",), seed=3)
BATCH_SIZE = 256
NUM_TRIPLES = 5408
Pair = Sequence[torch.Tensor]


def share(client: Client, epoch: int, start: int = 0, **config: Any) -> list[Pair]:
    """Read the rest of an epoch, without torch's loaders."""
    config = {"batch_size": BATCH_SIZE, **config}
    stream = client.triples_factory("world").epochs(SAMPLER, EpochConfig(**config))
    stream.load_state_dict({"epoch": epoch, "start": start})
    return [
        (torch.from_numpy(batch.positives.copy()), torch.from_numpy(batch.negative_triples()))
        for batch in stream
    ]


def pairs(batches: Iterable[Any]) -> list[Pair]:
    """Return positives and negatives of batches in any form."""
    return [
        tuple(batch[:2]) if isinstance(batch, list | tuple) else (batch.positives, batch.negatives)
        for batch in batches
    ]


def assert_same(ours: Any, theirs: Sequence[Pair]) -> None:
    assert not isinstance(ours, str), ours
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def assert_each_once(*ranks: Any, num_triples: int = NUM_TRIPLES) -> None:
    for each in ranks:
        assert not isinstance(each, str), each
    positives = torch.cat([batch[0] for each in ranks for batch in each])
    assert len(positives) == len(positives.unique(dim=0)) == num_triples
