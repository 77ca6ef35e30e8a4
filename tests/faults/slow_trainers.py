"""Trainers that read epochs slowly until they are told to end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

from negserve import Client, EpochBatch, EpochConfig, SamplerConfig
from tests.faults.conftest import NUM_TRIPLES
from tests.support.epochs import piece
from tests.support.graphs import load
from tests.support.workers import wait_for

NUM_TRAINERS = 16
_PATIENCE = 60.0
#: Of a batch.
_SECONDS = 0.25
#: 256 KB a batch, so that what is on its way, some megabytes of a stream, is used up soon.
_SAMPLER = SamplerConfig(num_negs_per_pos=4000, filter_splits=("training",), seed=23)
_BATCH_SIZE = 32


def _config_of(rank: int) -> EpochConfig:
    return EpochConfig(batch_size=_BATCH_SIZE, rank=rank, world_size=NUM_TRAINERS)


def _digest_of(batches: Iterable[EpochBatch]) -> str:
    """Hash batches, with their positions."""
    sha = hashlib.sha256()
    for batch in batches:
        position, rows = piece(batch, NUM_TRIPLES)
        sha.update(b"%d %d\n" % (position, len(rows)))
        sha.update(rows.tobytes())
    return sha.hexdigest()


def _undisturbed(rank: int, number: int) -> str:
    """Return the digest of an epoch of a rank, computed in process."""
    epoch = load("world").epoch(_SAMPLER, _config_of(rank), number=number)
    return _digest_of(epoch.batch(index) for index in range(len(epoch)))


class SlowTrainers:
    """Ranks that read epoch after epoch until they are told to end.

    :param target: where they connect to, each over its own connection
    """

    def __init__(self, threads: ThreadPoolExecutor, target: str) -> None:
        self._end = threading.Event()
        self._num_batches = [0] * NUM_TRAINERS
        self._num_negatives = [0] * NUM_TRAINERS
        self._training = [threads.submit(self._train, target, i) for i in range(NUM_TRAINERS)]

    def _train(self, target: str, rank: int) -> list[str]:
        digests = []
        with Client(target, patience=_PATIENCE) as client:
            factory = client.triples_factory("world")
            stream = factory.epochs(_SAMPLER, _config_of(rank), prefetch=1)
            while not self._end.is_set():
                digests.append(_digest_of(self._slowly(stream, rank)))
        return digests

    def _slowly(self, stream: Iterable[EpochBatch], rank: int) -> Iterator[EpochBatch]:
        for batch in stream:
            self._num_batches[rank] += 1
            self._num_negatives[rank] += batch.negatives.replaced.size
            yield batch
            self._end.wait(_SECONDS)

    @property
    def num_negatives(self) -> int:
        """What all have received."""
        return sum(self._num_negatives)

    def go_on(self, num_batches: int = 2) -> None:
        """Wait until each has some more batches; raise the error of one that has failed."""
        wanted = [done + num_batches for done in self._num_batches]

        def have_them() -> bool:
            for each in self._training:
                if each.done():
                    each.result()
            return all(done >= want for done, want in zip(self._num_batches, wanted, strict=True))

        wait_for(have_them, "more batches for every trainer")

    def end(self) -> None:
        """Let all complete their epoch, and wait for it."""
        self._end.set()
        wait(self._training, 2 * _PATIENCE)

    def check(self) -> int:
        """Compare all epochs with undisturbed ones, and return how many there were."""
        num_epochs = 0
        for rank, training in enumerate(self._training):
            digests = training.result(0)
            assert digests == [_undisturbed(rank, number) for number in range(len(digests))], rank
            num_epochs += len(digests)
        return num_epochs
