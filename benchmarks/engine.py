"""Negatives per second of the engine against PyKEEN, in process, one thread.

Run as ``python -m benchmarks.engine [--json FILE]``. All systems take turns over five
repetitions in one run; the table gives medians, lowest and highest. PyKEEN's unit is the
proposed negative: with a filter, it returns fewer.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.graphs import fb15k_237
from benchmarks.measuring import rates, report, row
from negserve_server.graph import TriplesFactory
from negserve_server.sampling import SamplerConfig

BATCH_SIZE = 1024
NUM_NEGS_PER_POS = (1, 16, 64, 256, 1000)


def ours(factory: TriplesFactory, kind: str, k: int, filtered: bool) -> Callable[[], int]:
    """Corrupt one batch after the other."""
    sampler = factory.sampler(
        SamplerConfig(
            kind=kind,  # type: ignore[arg-type]
            num_negs_per_pos=k,
            filter_splits=("training",) if filtered else (),
        )
    )
    batches = _batches(factory)
    state = [0]

    def step() -> int:
        state[0] += 1
        batch = sampler.sample(batches[state[0] % len(batches)], state[0] * BATCH_SIZE)
        return int(batch.replaced.size)

    return step


def pykeen(factory: TriplesFactory, kind: str, k: int, filterer: str | None) -> Callable[[], int]:
    """Sample one batch after the other with PyKEEN's sampler of that kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pykeen.sampling import BasicNegativeSampler, BernoulliNegativeSampler
    cls = {"basic": BasicNegativeSampler, "bernoulli": BernoulliNegativeSampler}[kind]
    sampler = cls(
        mapped_triples=torch.from_numpy(factory.mapped_triples.copy()),
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        num_negs_per_pos=k,
        filtered=filterer is not None,
        filterer=filterer,
    )
    batches = [torch.from_numpy(batch) for batch in _batches(factory)]
    state = [0]

    def step() -> int:
        state[0] += 1
        negatives, _ = sampler.sample(batches[state[0] % len(batches)])
        return int(negatives.shape[0] * negatives.shape[1])

    return step


def _batches(factory: TriplesFactory) -> list[NDArray[np.int64]]:
    order = np.random.default_rng(0).permutation(factory.num_triples)
    num_batches = factory.num_triples // BATCH_SIZE
    return [
        factory.mapped_triples[order[i * BATCH_SIZE : (i + 1) * BATCH_SIZE]].copy()
        for i in range(num_batches)
    ]


def main(json_path: Path | None = None) -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    name, factory = fb15k_237()
    rows = []
    for k in NUM_NEGS_PER_POS:
        cases: dict[tuple[str, str, str], Callable[[], int]] = {}
        for kind in ("basic", "bernoulli"):
            cases["negserve", kind, "none"] = ours(factory, kind, k, filtered=False)
            cases["negserve", kind, "exact"] = ours(factory, kind, k, filtered=True)
            cases["pykeen 1.11.1", kind, "none"] = pykeen(factory, kind, k, None)
            cases["pykeen 1.11.1", kind, "bloom"] = pykeen(factory, kind, k, "bloom")
            if k <= 64:
                cases["pykeen 1.11.1", kind, "python-set"] = pykeen(factory, kind, k, "pythonset")
        measured = rates({"|".join(key): case for key, case in cases.items()}, f"k = {k}")
        for (system, kind, mode), values in zip(cases, measured.values(), strict=True):
            rows.append(
                row(
                    values,
                    system=system,
                    sampler=kind,
                    filter=mode,
                    graph=name,
                    batch=BATCH_SIZE,
                    k=k,
                    threads=1,
                )
            )
    report("engine", rows, json_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the rows")
    main(parser.parse_args().json)
