"""The ranks of a training, one process each, whose samplers count positions by themselves.

``python -m tests.support.children.drawing_ranks TARGET FOLDER NUM_RANKS SEED WHAT``: forks the
ranks, lets them draw for equal positives (in ``integrations``, or in workers: ``fork``,
``fork+spawn``), and writes what rank r drew to ``FOLDER/r.npz``, an array of replaced ids, shape
(n, k), for each place that draws.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader

from negserve import Client, SamplerConfig
from negserve.sampling import BasicNegativeSampler

K, BATCH_SIZE, NUM_BATCHES = 8, 64, 4


class Collate:
    """Draws in a worker; spawned workers get it pickled."""

    def __init__(self, sampler: BasicNegativeSampler, positives: torch.Tensor) -> None:
        self.sampler = sampler
        self.positives = positives

    def __call__(self, _: Any) -> torch.Tensor:
        return replaced(self.sampler.sample(self.positives)[0])


def replaced(negatives: torch.Tensor) -> torch.Tensor:
    """Return the replaced ids: k / 2 heads, then k / 2 tails, as Basic allocates them."""
    half = K // 2
    return torch.cat([negatives[:, :half, 0], negatives[:, half:, 2]], dim=1)


def loader_of(collate: Collate, method: str, num_workers: int) -> DataLoader[torch.Tensor]:
    batches = list(range(NUM_BATCHES))
    return DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=1,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context=method,
        timeout=120,
    )


def draw_in_workers(
    sampler: BasicNegativeSampler, positives: torch.Tensor, methods: list[str]
) -> dict[str, Any]:
    """Draw in this process, and in workers: forked ones of two epochs, then one of each method."""
    drawn = {"process": [replaced(sampler.sample(positives)[0]) for _ in range(NUM_BATCHES)]}
    collate = Collate(sampler, positives)
    for epoch in range(2):
        drawn[f"fork {epoch}"] = list(loader_of(collate, "fork", 2))
    for method in methods:
        drawn[f"one {method}"] = list(loader_of(collate, method, 1))
    drawn["after"] = [replaced(sampler.sample(positives)[0])]
    return {name: torch.cat(batches) for name, batches in drawn.items()}


def draw_in_integrations(world: Any, positives: torch.Tensor, seed: int) -> dict[str, Any]:
    """Draw as the loops of TorchKGE and PyTorch Geometric do."""
    import pandas as pd
    from torchkge.data_structures import KnowledgeGraph

    from negserve.integrations.torch_geometric import negative_edges
    from negserve.integrations.torchkge import RemoteNegativeSampler

    heads, relations, tails = positives.unbind(dim=1)
    labels, names = list(world.entity_to_id), list(world.relation_to_id)
    frame = pd.DataFrame(
        [(labels[h], labels[t], names[r]) for h, r, t in positives.tolist()],
        columns=["from", "to", "rel"],
    )
    kg = KnowledgeGraph(df=frame, ent2ix=world.entity_to_id, rel2ix=world.relation_to_id)
    theirs = RemoteNegativeSampler(kg, n_neg=K, graph=world, sampler="basic", seed=seed)
    ours = BasicNegativeSampler(world, K, filtered=True, seed=seed + 1)
    drawn: dict[str, list[torch.Tensor]] = {"torchkge": [], "torch_geometric": []}
    for _ in range(NUM_BATCHES):
        columns = theirs.corrupt_batch(heads, tails, relations)
        by_positive = [column.reshape(K, -1).T for column in columns]
        half = K // 2
        drawn["torchkge"].append(torch.cat([by_positive[0][:, :half], by_positive[1][:, half:]], 1))
        edges = negative_edges(ours, torch.stack([heads, tails]), relations)
        triples = torch.stack([edges.edge_index[0], edges.edge_type, edges.edge_index[1]], 1)
        drawn["torch_geometric"].append(replaced(triples.reshape(-1, K, 3)))
    return {name: torch.cat(batches) for name, batches in drawn.items()}


def train(rank: int, target: str, folder: str, num_ranks: int, seed: int, what: str) -> None:
    """Run one rank."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_ranks
    )
    with Client(target) as client:
        world = client.triples_factory("world")
        batch = next(iter(world.epochs(SamplerConfig(seed=2**63))))
        positives = torch.from_numpy(batch.positives[:BATCH_SIZE].copy())
        if what == "integrations":
            drawn = draw_in_integrations(world, positives, seed)
        else:
            sampler = BasicNegativeSampler(world, K, filtered=True, seed=seed)
            # A worker is spawned where it has to know its rank: a spawned one takes seconds.
            methods = [] if what == "fork" else ["spawn" if rank == num_ranks - 1 else "fork"]
            drawn = draw_in_workers(sampler, positives, methods)
    np.savez(Path(folder) / f"{rank}.npz", **{name: it.numpy() for name, it in drawn.items()})
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    target, folder, num_ranks, seed, what = sys.argv[1:]
    context = torch.multiprocessing.get_context("fork")  # no client is used before
    arguments = (target, folder, int(num_ranks), int(seed), what)
    ranks = [
        context.Process(target=train, args=(rank, *arguments)) for rank in range(int(num_ranks))
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(200)
    sys.exit(max(1 if process.exitcode is None else process.exitcode for process in ranks))


if __name__ == "__main__":
    main()
