"""A trainer as a process of its own, with the client of this or an older checkout.

Run as ``python -m benchmarks.measured.trainer_child TARGET``. Reads a JSON object a line: which
way of taking negatives, batch size, k, and for how many seconds. Answers with one: negatives,
seconds, and the processor seconds of this process. It uses what the clients of both checkouts
offer to the public, in the same way.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator

import torch

from benchmarks.support.measuring import Step
from negserve import Client, EpochConfig, RemoteTriplesFactory, SamplerConfig
from negserve.sampling import BernoulliNegativeSampler, expand

#: Batches that ``sample`` gets in turn.
_MOST_BATCHES = 64
#: Share of a turn's duration for what was read ahead meanwhile.
_SETTLING = 0.25


class Trainer:
    """Takes negatives of one size, by any way."""

    def __init__(self, factory: RemoteTriplesFactory) -> None:
        self._factory = factory
        self._size = (0, 0)
        self._steps: dict[str, Step] = {}

    def turn(self, way: str, batch: int, k: int, seconds: float) -> dict[str, float]:
        """Take negatives for some seconds, at least a batch.

        :param way: ``epoch`` (int64 triples), ``compact`` (of an epoch) or ``sample``
        """
        if self._size != (batch, k):  # streams of another size end
            self._size, self._steps = (batch, k), {}
        if way not in self._steps:
            self._steps[way] = (
                self._sample(batch, k) if way == "sample" else self._epoch(batch, k, way == "epoch")
            )
        step = self._steps[way]
        self._repeat(step, _SETTLING * seconds)
        return self._repeat(step, seconds)

    @staticmethod
    def _repeat(step: Step, seconds: float) -> dict[str, float]:
        count, processor, begin = 0, time.process_time(), time.perf_counter()
        while True:
            count += step()
            if (elapsed := time.perf_counter() - begin) >= seconds:
                break
        used = time.process_time() - processor
        return {"negatives": count, "seconds": elapsed, "processor_seconds": used}

    def _epoch(self, batch: int, k: int, is_whole: bool) -> Step:
        sampler = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
        stream = self._factory.epochs(sampler, EpochConfig(batch_size=batch, tail="drop"))
        batches = (each for _ in itertools.count() for each in stream)

        def step() -> int:
            taken = next(batches)
            if is_whole:
                expand(taken.negatives, torch.from_numpy(taken.positives))
            return int(taken.negatives.replaced.size)

        return step

    def _sample(self, batch: int, k: int) -> Step:
        sampler = BernoulliNegativeSampler(self._factory, k, filtered=True)
        batches = itertools.cycle(list(self._positives(batch)))

        def step() -> int:
            negatives, _ = sampler.sample(next(batches))
            return negatives.shape[0] * negatives.shape[1]

        return step

    def _positives(self, batch: int) -> Iterator[torch.Tensor]:
        """Yield shuffled training triples, which an epoch has."""
        stream = self._factory.epochs(SamplerConfig(), EpochConfig(batch_size=batch, tail="drop"))
        for taken in itertools.islice(stream, _MOST_BATCHES):
            yield torch.from_numpy(taken.positives.copy())


def main(target: str) -> None:
    """Answer requests until the input ends."""
    torch.set_num_threads(1)  # because the server needs the other core
    with Client(target) as client:
        trainer = Trainer(client.triples_factory("graph"))
        for line in sys.stdin:
            print(json.dumps(trainer.turn(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
