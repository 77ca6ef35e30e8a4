"""negserve's samplers in process, as cases to measure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.support.measuring import Turn, repeated
from benchmarks.support.positives import Positives
from negserve_server.graph import TriplesFactory


def negserve(factory: TriplesFactory, positives: Positives, k: int, **options: Any) -> Turn:
    """Corrupt one batch after another."""
    sampler = factory.open_sampler(num_negs_per_pos=k, **options)
    batch_size, position = positives.batch_size, 0

    def step() -> int:
        nonlocal position
        sampler.sample(positives.next(), position)
        position += batch_size
        return batch_size * k

    return repeated(step)


def negserve_threads(
    factory: TriplesFactory, positives: Positives, k: int, threads: int, **options: Any
) -> Turn:
    """Let several threads call one sampler at once, each for some batches."""
    sampler = factory.open_sampler(num_negs_per_pos=k, **options)
    batch_size = positives.batch_size
    num_batches = max(8, min(1024, 2**23 // (batch_size * k)))
    pool = ThreadPoolExecutor(threads)

    def work(thread: int) -> None:
        for i in range(num_batches):
            sampler.sample(positives.next(), (thread * num_batches + i) * batch_size)

    def step() -> int:
        list(pool.map(work, range(threads)))
        return threads * num_batches * batch_size * k

    return repeated(step)
