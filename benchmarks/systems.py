"""The systems that are measured: negserve in process, and PyKEEN's samplers."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import Step, console
from negserve_server.graph import TriplesFactory

PYKEEN = "pykeen 1.11.1"

#: Memory for building a Python set of triples, as measured, and the most that may be taken.
_SET_BYTES_PER_TRIPLE = 400
SET_BUDGET = 12 * 2**30

_MAX_POSITIVES = 2**22
_MAX_BATCHES = 2**16


class Positives:
    """Training triples in random order, in batches, again and again.

    All cases take their batches from here in turn: nobody finds in the caches what another, or
    he himself, was asked a moment ago, as long as the graph is larger than they are.

    :param triples: shape (n, 3)
    :param batch_size: positives per batch; if there are fewer, they are repeated
    """

    def __init__(self, triples: NDArray[np.int64], batch_size: int) -> None:
        order = np.random.default_rng(0).permutation(len(triples))[:_MAX_POSITIVES]
        if len(order) < batch_size:
            order = np.resize(order, batch_size)
        num_batches = min(len(order) // batch_size, _MAX_BATCHES)
        chosen = triples[order[: num_batches * batch_size]]
        self.batch_size = batch_size
        self._arrays = np.split(chosen, num_batches)
        self._tensors = [torch.from_numpy(array) for array in self._arrays]
        self._at = 0

    def array(self) -> NDArray[np.int64]:
        """Give the next batch, shape (batch_size, 3)."""
        self._at = (self._at + 1) % len(self._arrays)
        return self._arrays[self._at]

    def tensor(self) -> torch.Tensor:
        """Give the next batch, shape (batch_size, 3)."""
        self._at = (self._at + 1) % len(self._tensors)
        return self._tensors[self._at]


def negserve(factory: TriplesFactory, positives: Positives, k: int, **options: Any) -> Step:
    """Corrupt one batch after the other."""
    sampler = factory.open_sampler(num_negs_per_pos=k, **options)
    batch_size, position = positives.batch_size, 0

    def step() -> int:
        nonlocal position
        sampler.sample(positives.array(), position)
        position += batch_size
        return batch_size * k

    return step


def negserve_threads(
    factory: TriplesFactory, positives: Positives, k: int, threads: int, **options: Any
) -> Step:
    """Let several threads call one sampler at once, each for some batches."""
    sampler = factory.open_sampler(num_negs_per_pos=k, **options)
    batch_size = positives.batch_size
    num_batches = max(8, min(1024, 2**23 // (batch_size * k)))
    pool = ThreadPoolExecutor(threads)

    def work(thread: int) -> None:
        # Positives are handed out without a lock: two threads may get the same batch.
        for i in range(num_batches):
            sampler.sample(positives.array(), (thread * num_batches + i) * batch_size)

    def step() -> int:
        list(pool.map(work, range(threads)))
        return threads * num_batches * batch_size * k

    return step


class PyKeen:
    """PyKEEN's samplers of a graph: what is built from it is built once for every k.

    :ivar seconds: how long building took
    """

    def __init__(self, factory: TriplesFactory) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pykeen.sampling import BasicNegativeSampler, BernoulliNegativeSampler
            from pykeen.sampling.filtering import BloomFilterer, PythonSetFilterer
        triples = torch.from_numpy(factory.mapped_triples.copy())
        sizes = {"num_entities": factory.num_entities, "num_relations": factory.num_relations}
        self.seconds: dict[str, float] = {}
        self._samplers: dict[str, Any] = {}
        self._filterers: dict[str, Any] = {}
        for kind, sampler in (
            ("basic", BasicNegativeSampler),
            ("bernoulli", BernoulliNegativeSampler),
        ):
            with timed(f"{PYKEEN}: {kind} sampler", self.seconds):
                self._samplers[kind] = sampler(mapped_triples=triples, **sizes)
        for name, filterer in (("bloom", BloomFilterer), ("python-set", PythonSetFilterer)):
            needed, free = _SET_BYTES_PER_TRIPLE * len(triples), _available_memory()
            if name == "python-set" and needed > min(SET_BUDGET, free):
                self._filterers[name] = (
                    f"a Python set of {len(triples):,} triples takes some {needed / 2**30:.1f} GiB "
                    f"to build; {free / 2**30:.1f} are free, the budget is {SET_BUDGET / 2**30:.0f}"
                )
                continue
            with timed(f"{PYKEEN}: {name} filter", self.seconds):
                self._filterers[name] = filterer(mapped_triples=triples)

    def step(self, positives: Positives, kind: str, k: int, filterer: str | None) -> Step | str:
        """Sample one batch after the other; or say why that is not possible.

        The unit is the proposed negative: with a filter, fewer are valid.
        """
        # A copy of an unfiltered sampler is small: it holds a probability per relation.
        sampler = copy.deepcopy(self._samplers[kind])
        sampler.num_negs_per_pos = k
        if filterer is not None:
            chosen = self._filterers[filterer]
            if isinstance(chosen, str):
                return chosen
            sampler.filterer = chosen

        def step() -> int:
            negatives, _ = sampler.sample(positives.tensor())
            return int(negatives.shape[0] * negatives.shape[1])

        return step


@contextmanager
def timed(what: str, seconds: dict[str, float]) -> Iterator[None]:
    """Show what is being built, and keep how long that took."""
    begin = time.perf_counter()
    with console.status(what):
        yield
    seconds[what] = time.perf_counter() - begin
    console.print(f"{what}: {seconds[what]:.1f} s")


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return SET_BUDGET
