"""``sample()`` over a server and on the client, next to PyKEEN's samplers; few negatives.

Run as ``python -m benchmarks.small_batches [--json FILE]``. The server is a separate process on
loopback; all systems take turns over five repetitions in one run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.engine import BATCH_SIZE
from benchmarks.measured.pykeen_samplers import PYKEEN, PyKeen
from benchmarks.remote import SERVE, running, synchronous, written
from benchmarks.support.graphs import fb15k_237
from benchmarks.support.measuring import Case, Turn, measure, repeated, show, write
from negserve import Client
from negserve.sampling import BernoulliNegativeSampler, TriplesFactory


def main(json_path: Path | None = None) -> None:
    """Measure and report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # as for PyKEEN, and because the server needs the other core
    name, graph = fb15k_237()
    with (
        written(graph) as file,
        running(
            "negserve_server.cli", *SERVE, "--allow-pull", "--dataset", f"graph={file}"
        ) as target,
        Client(target) as client,
        PyKeen(graph, BATCH_SIZE, ("bernoulli",)) as pykeen,
    ):
        triples = torch.from_numpy(graph.mapped_triples.copy())
        remote = client.triples_factory("graph")
        local = client.triples_factory("graph", compute="client")
        cases: list[Case] = []

        def add(system: str, k: int, mode: str, turn: Turn | str) -> None:
            facts = {
                "system": system, "filter": mode, "k": k,
                "sampler": "bernoulli", "graph": name, "batch": BATCH_SIZE,
            }  # fmt: skip
            cases.append((facts, turn))

        for k in (1, 2, 4, 16, 64):
            for mode in ("none", "bloom", "python-set"):
                add(PYKEEN, k, mode, pykeen.turn("bernoulli", k, mode))
            add("negserve, Sample", k, "exact", synchronous(remote, triples, True, k))
            add("negserve, on the client", k, "exact", synchronous(local, triples, True, k))
            # Without the triples, which the trainer rebuilds in both cases.
            add("negserve, Sample, compact", k, "exact", compact(remote, triples, k))
            add("negserve, on the client, compact", k, "exact", compact(local, triples, k))
        rows = measure(cases, "small batches")
    show("small batches", rows)
    write("small_batches", rows, json_path)


def compact(factory: TriplesFactory, triples: torch.Tensor, k: int) -> Turn:
    """Call ``sample_compact`` for one batch after another."""
    sampler = BernoulliNegativeSampler(factory, k, filtered=True)
    batches = torch.split(triples[torch.randperm(len(triples))], BATCH_SIZE)
    state = [0]

    def step() -> int:
        state[0] += 1
        batch = sampler.sample_compact(batches[state[0] % (len(batches) - 1)])
        return batch.replaced.size

    return repeated(step)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    main(parser.parse_args().json)
