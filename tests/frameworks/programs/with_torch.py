"""Cases of torch itself, on two ranks: its checkpoints and its compiler."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.nn.parallel import DistributedDataParallel

from negserve.data import TripleLoader, TripleStream
from tests.support.programs.ranks import Cases
from tests.support.shares import BATCH_SIZE, SAMPLER, pairs

cases = Cases()


def stream_of(**options: Any) -> TripleStream:
    options = {"batch_size": BATCH_SIZE, "form": "compact", **options}
    return TripleStream(cases.target, "world", SAMPLER, **options)


def kept(loader: Any, again: Any) -> Any:
    """Save the state in mid-epoch, and resume from it as after a restart."""
    path, given = cases.folder / f"kept{len(list(cases.folder.iterdir()))}", []
    distributed.barrier()
    for batch in loader:
        given.append(batch)
        if len(given) == 4:
            checkpoint.save({"stream": loader}, checkpoint_id=path)
            break
    checkpoint.load({"stream": again}, checkpoint_id=path)
    return pairs([*given, *again])


@cases.add
def loader_kept() -> Any:
    loaders = [TripleLoader(stream_of(), num_workers=number) for number in (2, 0)]
    return kept(*loaders)


@cases.add
def stream_kept() -> Any:
    return kept(stream_of(form="batch"), stream_of(form="batch"))


@cases.add
def compiled() -> Any:
    torch.manual_seed(0)
    plain = nn.Embedding(2571 + 29, 16)
    compiled = torch.compile(DistributedDataParallel(plain), backend="aot_eager", dynamic=True)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager", dynamic=True)
    def loss_of(scores: Tensor) -> Tensor:
        return scores.square().sum() / BATCH_SIZE

    given, losses = [], []
    # 97 triples are 6 steps of 2 * 8, and one more: the first rank's last batch is empty.
    for batch in TripleLoader(stream_of(batch_size=8, relations=(3,))):
        loss = loss_of(compiled(batch.negatives.flatten(0, 1)[:, (0, 2)]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        given.append(batch)
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    return pairs(given)


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    try:
        cases.write(distributed.get_rank())
    finally:
        distributed.destroy_process_group()
