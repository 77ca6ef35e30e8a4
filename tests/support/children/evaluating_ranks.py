"""The ranks of an evaluation, one process each.

``python -m tests.support.children.evaluating_ranks FOLDER NUM_RANKS WHAT``: forks the ranks. They
evaluate the embedded graph's test triples, and rank r writes its report to ``FOLDER/r.json``, or
the type and text of its error to ``FOLDER/r.txt``. WHAT is ``fine``; ``broken``: the model of the
last rank raises; ``different``: the last rank has other triples; ``outside``: the last rank has an
id that the graph has not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed

from negserve.evaluation import evaluate
from negserve.types.config import Slot
from negserve_server.graph import TriplesFactory


class Bilinear:
    """Random embeddings: a matrix product, whose last bits may depend on the batch."""

    def __init__(self, graph: TriplesFactory) -> None:
        generator = torch.Generator().manual_seed(3)
        self.entities = torch.randn((graph.num_entities, 24), generator=generator)
        self.relations = torch.randn((graph.num_relations, 24), generator=generator)

    def __call__(self, pairs: Tensor, slot: Slot, /) -> Tensor:
        given, relations = pairs.T if slot == "tail" else pairs.T.flip(0)
        return (self.entities[given] * self.relations[relations]) @ self.entities.T


class Broken(Bilinear):
    """Fails at its second batch."""

    num_calls = 0

    def __call__(self, pairs: Tensor, slot: Slot, /) -> Tensor:
        self.num_calls += 1
        if self.num_calls == 2:
            raise ZeroDivisionError("of the model")
        return super().__call__(pairs, slot)


def evaluate_on(rank: int, folder: str, num_ranks: int, what: str) -> None:
    """Run one rank."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_ranks
    )
    is_last = rank == num_ranks - 1
    graph = TriplesFactory.world()
    model = (Broken if what == "broken" and is_last else Bilinear)(graph)
    triples = graph.splits["testing"]
    if what == "different" and is_last:
        triples = triples[::-1]
    if what == "outside" and is_last:
        triples = triples + graph.num_entities
    try:
        # The last batch of each slot is shorter, and ranks have different numbers of batches.
        report = evaluate(model, graph, triples, batch_size=37)
    except Exception as error:
        Path(folder, f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")
    else:
        Path(folder, f"{rank}.json").write_text(report.to_json())
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    folder, num_ranks, what = sys.argv[1:]
    context = torch.multiprocessing.get_context("fork")
    arguments = (folder, int(num_ranks), what)
    ranks = [
        context.Process(target=evaluate_on, args=(rank, *arguments))
        for rank in range(int(num_ranks))
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(200)
    sys.exit(max(1 if process.exitcode is None else process.exitcode for process in ranks))


if __name__ == "__main__":
    main()
