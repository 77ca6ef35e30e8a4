"""The ranks of a training, one process each, that publish the same graph at once.

``python -m tests.support.children.publishing_ranks TARGET NAME FILE NUM_RANKS``: the file holds the
splits and the sizes of the id space (``numpy.savez``). Prints what each rank got, a JSON list.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from typing import Any

import numpy as np

from negserve import Client
from negserve._graph.mapped_graph import MappedGraph

SECONDS = 60


def publish(
    target: str, name: str, splits: dict[str, Any], sizes: dict[str, int], begin: Any, answers: Any
) -> None:
    """Run one rank."""
    stages = set()
    prepare = MappedGraph.of

    def together(*given: Any, **options: Any) -> MappedGraph:
        graph = prepare(*given, **options)
        begin.wait(SECONDS)  # so that all announce at once, however slow the machine is
        return graph

    MappedGraph.of = together  # type: ignore[method-assign, assignment]
    with Client(target) as client:
        factory = client.publish(
            name, splits, **sizes, on_progress=lambda progress: stages.add(progress.stage)
        )
        sampler = factory.open_sampler(num_negs_per_pos=4, filter_splits=("training",))
        drawn = sampler.sample([[1, 2, 3]], 0).replaced.tolist()
    answers.put((factory.fingerprint, drawn, sorted(stages)))


def main() -> None:
    target, name, path, num_ranks = sys.argv[1:]
    with np.load(path) as file:
        held = dict(file)
    sizes = {size: int(held.pop(size)) for size in ("num_entities", "num_relations")}
    context = multiprocessing.get_context("fork")  # no client is used before
    begin, answers = context.Barrier(int(num_ranks)), context.Queue()
    ranks = [
        context.Process(
            target=publish, args=(target, name, held, sizes, begin, answers), daemon=True
        )
        for _ in range(int(num_ranks))
    ]
    for rank in ranks:
        rank.start()
    print(json.dumps([answers.get(timeout=SECONDS) for _ in ranks]))
    for rank in ranks:
        rank.join(SECONDS)
        assert rank.exitcode == 0


if __name__ == "__main__":
    main()
