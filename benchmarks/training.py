"""Duration of an epoch of training on the CPU, with PyKEEN's samplers and with ours.

Run as ``python -m benchmarks.training [--rounds N] [--share F] [--threads N] [--json FILE]``.
TransE of a small dimension, FB15k-237, batch 1024, in PyKEEN's own SLCWA loop and in a plain one.
An epoch is the first batches of one, some hundred with few negatives, fewer with many. Trainers are
a process each (:mod:`benchmarks.measured.training_child`), and so is the server, on loopback. All
take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.measured.pykeen_samplers import PYKEEN
from benchmarks.remote import SERVE, running, written
from benchmarks.support import goals
from benchmarks.support.children import HERE, started, told
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import Row, console, show, write

#: k, and batches of 1024 positives that stand for an epoch.
BATCHES = {1: 192, 64: 32}
_ROUNDS = 5
#: Loops as :mod:`benchmarks.measured.training_child` and as rows name them.
_LOOPS = {"pykeen": goals.PYKEEN_LOOP, "plain": goals.PLAIN_LOOP}
#: Trainer, its sampler, and what rows say of it: system, path, filter.
_SAMPLERS = (
    ("pykeen", "none", (PYKEEN, "in process", "none")),
    ("pykeen", "bloom", (PYKEEN, "in process", "bloom")),
    ("pykeen", "python-set", (PYKEEN, "in process", "python-set")),
    ("server", "server", ("negserve", "RPC", "exact")),
    ("client", "client", ("negserve", "in process", "exact")),
)


def main(rounds: int, share: float, threads: int, json_path: Path | None) -> None:
    """Measure and report."""
    name, graph = fb15k_237()
    found: dict[tuple[int, str, str, tuple[str, str, str]], list[float]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        np.save(triples := Path(folder, "triples.npy"), graph.mapped_triples)
        file = stack.enter_context(written(graph))
        target = stack.enter_context(
            running(
                "negserve_server.cli", *SERVE, "--allow-pull", "--dataset", f"graph={file}"
            )
        )  # fmt: skip
        trainers = {}
        for trainer in ("pykeen", "server", "client"):
            process = stack.enter_context(started(HERE, "benchmarks.measured.training_child"))
            told(
                process, path=str(triples), num_entities=graph.num_entities,
                num_relations=graph.num_relations, threads=threads,
                target=None if trainer == "pykeen" else target,
            )  # fmt: skip
            trainers[trainer] = process
        cases = list(product(BATCHES, _LOOPS, _SAMPLERS))
        with console.status("training, first batches"):
            for k, loop, (trainer, sampler, _) in cases:
                told(trainers[trainer], loop=loop, sampler=sampler, k=k, batches=2)
        for number in range(rounds):
            with console.status(f"training, round {number + 1} of {rounds}"):
                for k, loop, (trainer, sampler, facts) in cases:
                    batches = max(1, round(share * BATCHES[k]))
                    seconds = told(
                        trainers[trainer], loop=loop, sampler=sampler, k=k, batches=batches
                    )["seconds"]
                    found.setdefault((k, loop, sampler, facts), []).append(seconds)
    rows: list[Row] = [
        {
            "loop": _LOOPS[loop], "system": system, "path": path, "filter": mode, "k": k,
            "sampler": "bernoulli", "graph": name, "batch": 1024,
            "batches": max(1, round(share * BATCHES[k])), "seconds": statistics.median(seconds),
            "least_seconds": min(seconds), "most_seconds": max(seconds),
            "repetitions": len(seconds),
        }
        for (k, loop, _, (system, path, mode)), seconds in found.items()
    ]  # fmt: skip
    show("training", rows)
    goals.show(goals.check_training(rows))
    write("training", rows, json_path, threads=threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--share", type=float, default=1.0,
                        help="of the batches, for a try (default: %(default)s)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1,
                        help="of torch in each trainer (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    main(given.rounds, given.share, given.threads, given.json)
