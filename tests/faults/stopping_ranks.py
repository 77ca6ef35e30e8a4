"""Ranks of a training that stop where a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from negserve import Client, EpochBatch, EpochConfig
from tests.faults.conftest import BATCH_SIZE, NUM_TRIPLES, SAMPLER, pieces_of
from tests.support.epochs import union_digest

_PATIENCE = 60.0
#: 60 MB for a rank: more than proxy and client hold.
LARGE = replace(SAMPLER, num_negs_per_pos=12_000)


class StoppingRanks:
    """Ranks of one training that read an epoch, and all wait at some of their batches.

    :param stops: numbers of these batches
    """

    def __init__(self, threads: ThreadPoolExecutor, target: str, num: int, stops: set[int]) -> None:
        self._stops = stops
        self._barrier = threading.Barrier(num + 1)
        self._reading = [threads.submit(self._read, target, rank, num) for rank in range(num)]

    def _read(self, target: str, rank: int, num: int) -> list[EpochBatch]:
        batches = []
        with Client(target, patience=_PATIENCE) as client:
            config = EpochConfig(batch_size=BATCH_SIZE, rank=rank, world_size=num)
            stream = client.triples_factory("world").epochs(LARGE, config, prefetch=1)
            for i, batch in enumerate(stream):
                batches.append(batch)
                if i in self._stops:
                    self._barrier.wait(_PATIENCE)
                    self._barrier.wait(_PATIENCE)
        return batches

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Wait until all have come to their next stop; they go on at the end of the block."""
        self._barrier.wait(_PATIENCE)
        try:
            yield
        except BaseException:
            self._barrier.abort()
            raise
        self._barrier.wait(_PATIENCE)

    def digest(self) -> str:
        """Wait for all, and hash what they have received."""
        pieces = [pieces_of(each.result(2 * _PATIENCE)) for each in self._reading]
        return union_digest(chain.from_iterable(pieces), NUM_TRIPLES)
