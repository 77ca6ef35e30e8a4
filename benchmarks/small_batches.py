"""``sample()`` over a server next to PyKEEN's filtered samplers, for few negatives.

Run as ``python -m benchmarks.small_batches [--json FILE]``. The server is a separate process on
loopback; all systems take turns over five repetitions in one run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.engine import BATCH_SIZE
from benchmarks.graphs import fb15k_237
from benchmarks.measuring import Case, Turn, measure, show, write
from benchmarks.pykeen_samplers import PYKEEN, PyKeen
from benchmarks.remote import SERVE, running, synchronous, written
from negserve import Client


def main(json_path: Path | None = None) -> None:
    """Measure and report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # as for PyKEEN, and because the server needs the other core
    name, graph = fb15k_237()
    with (
        written(graph) as file,
        running("negserve_server.cli", *SERVE, "--dataset", f"graph={file}") as target,
        Client(target) as client,
        PyKeen(graph, BATCH_SIZE, ("bernoulli",)) as pykeen,
    ):
        triples = torch.from_numpy(graph.mapped_triples.copy())
        remote = client.triples_factory("graph")
        cases: list[Case] = []

        def add(system: str, k: int, mode: str, turn: Turn | str) -> None:
            facts = {
                "system": system, "filter": mode, "k": k,
                "sampler": "bernoulli", "graph": name, "batch": BATCH_SIZE,
            }  # fmt: skip
            cases.append((facts, turn))

        for k in (1, 2, 4, 16, 64):
            for mode in ("bloom", "python-set"):
                add(PYKEEN, k, mode, pykeen.turn("bernoulli", k, mode))
            add("negserve, Sample", k, "exact", synchronous(remote, triples, True, k))
        rows = measure(cases, "small batches")
    show("small batches", rows)
    write("small_batches", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    main(parser.parse_args().json)
