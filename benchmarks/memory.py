"""Memory that closed configurations leave behind, each case in a separate process.

    python -m benchmarks.memory [CASE ...]

All samplers are closed in the end. Prints the resident memory before; then, while tables are still
cached; after they were evicted; and the peak.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.support.graphs import fb15k_237
from negserve_server.errors import NegserveServerError
from negserve_server.graph import TriplesFactory
from negserve_server.process.malloc import give_back
from negserve_server.tables import TABLES
from negserve_server.warm_up import warm_up


def rss() -> float:
    """Return the resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def open_and_close(factory: TriplesFactory, **options: object) -> None:
    """Open a sampler, use it, close it."""
    sampler = factory.open_sampler(filter_splits=("training",), **options)
    sampler.sample(factory.mapped_triples[:64], 0)
    sampler.close()


def refused() -> TriplesFactory:
    """8 refused configurations with 3.9 million candidates."""
    return TriplesFactory({"training": [[0, 0, 1], [1, 0, 2]]}, num_entities=4_000_000)


def refuse(factory: TriplesFactory) -> None:
    """Request them."""
    for first in range(8):
        candidates = np.arange(first, first + 3_900_000)
        try:
            open_and_close(factory, kind="typed", candidates=candidates)
        except NegserveServerError:
            continue
        raise AssertionError("not refused")


def subsets(factory: TriplesFactory) -> None:
    """100 sets of 10,000 candidates, each opened twice."""
    for seed in range(100):
        ids = np.random.default_rng(seed).choice(factory.num_entities, 10_000, replace=False)
        for _ in range(2):
            open_and_close(factory, candidates=ids)


def exponents(factory: TriplesFactory) -> None:
    """40 exponents of degree weights."""
    for step in range(40):
        open_and_close(factory, kind="degree", alpha=0.05 + step / 40)


def many_relations() -> TriplesFactory:
    """One triple among 8 million relations."""
    return TriplesFactory(
        {"training": [[0, 0, 1], [1, 0, 2]]}, num_entities=100, num_relations=8_000_000
    )


def mixtures(factory: TriplesFactory) -> None:
    """Four mixtures."""
    for shares in range(1, 5):
        mixture = (("basic", shares), ("bernoulli", 1), ("pseudotyped", 1), ("degree", 1))
        open_and_close(factory, kind="mixture", mixture=mixture)


CASES: dict[str, tuple[Callable[[], TriplesFactory], Callable[[TriplesFactory], None]]] = {
    "refused": (refused, refuse),
    "subsets": (lambda: fb15k_237()[1], subsets),
    "exponents": (lambda: fb15k_237()[1], exponents),
    "mixtures": (many_relations, mixtures),
}


def main() -> None:
    """Run the cases given on the command line, or all."""
    if len(sys.argv) == 3 and sys.argv[1] == "--here":
        make, work = CASES[sys.argv[2]]
        factory = make()
        warm_up({"graph": factory})
        gc.collect()
        before = rss()
        work(factory)
        gc.collect()
        kept, tables = rss(), TABLES.num_bytes / 2**20
        TABLES.drop_idle(0)
        give_back()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(
            f"{sys.argv[2]:<10} {before:6.0f} MiB before, {kept:6.0f} with {tables:.0f} of tables, "
            f"{rss():6.0f} without, {peak:6.0f} at the peak"
        )
        return
    for name in sys.argv[1:] or CASES:
        command = [sys.executable, "-m", "benchmarks.memory", "--here", name]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
