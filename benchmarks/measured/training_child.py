"""Trainings on the CPU as a process of its own, see :mod:`benchmarks.training`.

Reads a JSON object a line, and answers with one. It imports nothing of negserve unless it is asked
for a sampler of it, since PyKEEN's Python set is slower in a process with more objects.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

warnings.simplefilter("ignore")
from pykeen.models import TransE  # noqa: E402
from pykeen.sampling import BernoulliNegativeSampler  # noqa: E402
from pykeen.training import SLCWATrainingLoop  # noqa: E402
from pykeen.triples import CoreTriplesFactory  # noqa: E402
from pykeen.triples.instances import BatchedSLCWAInstances  # noqa: E402

#: So small that sampling matters.
_DIMENSION = 16
_BATCH_SIZE = 1024


class _SomeBatches(BatchedSLCWAInstances):  # type: ignore[misc]
    """The first batches of an epoch of PyKEEN, of a sampler that is already there.

    :ivar seconds: from the request for the first batch to that for one after the last
    """

    num_batches = 0
    seconds = 0.0

    def __init__(self, factory: CoreTriplesFactory, sampler: Any) -> None:
        super().__init__(
            factory.mapped_triples, _BATCH_SIZE, negative_sampler="basic",
            num_entities=factory.num_entities, num_relations=factory.num_relations,
        )  # fmt: skip
        self.negative_sampler = sampler

    def iter_triple_ids(self) -> Iterator[list[int]]:
        begin = time.perf_counter()
        yield from itertools.islice(super().iter_triple_ids(), self.num_batches)
        self.seconds = time.perf_counter() - begin

    def __len__(self) -> int:
        return self.num_batches


class _Loop(SLCWATrainingLoop):  # type: ignore[misc]
    """PyKEEN's training loop over given instances."""

    instances: _SomeBatches

    def _create_training_data_loader(self, *_: Any, **__: Any) -> DataLoader[Any]:
        return DataLoader(self.instances, batch_size=None)


class _PlainLoop:
    """A training loop as one writes it: TransE, softplus loss, SGD."""

    def __init__(self, num_entities: int, num_relations: int) -> None:
        self._entities = torch.nn.Embedding(num_entities, _DIMENSION)
        self._relations = torch.nn.Embedding(num_relations, _DIMENSION)
        parameters = (*self._entities.parameters(), *self._relations.parameters())
        self._optimizer = torch.optim.SGD(parameters, lr=0.1)

    def train(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor, Any]]) -> float:
        """Train on batches of positives (n, 3), negatives (n, k, 3) and a mask (n, k) or None.

        :return: the duration, in seconds
        """
        begin = time.perf_counter()
        for positives, negatives, mask in batches:
            losses = torch.nn.functional.softplus(self._scores(negatives))
            if mask is not None:
                losses = losses[mask]
            loss = losses.mean() + torch.nn.functional.softplus(-self._scores(positives)).mean()
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        return time.perf_counter() - begin

    def _scores(self, triples: torch.Tensor) -> torch.Tensor:
        heads, relations, tails = triples.unbind(-1)
        translated: torch.Tensor = (
            self._entities(heads) + self._relations(relations) - self._entities(tails)
        )
        return -translated.abs().sum(-1)


class Trainings:
    """Trains with PyKEEN's samplers, or with negserve's of a server.

    :param path: the training triples, shape (n, 3)
    :param target: address of the server that has them as ``graph``; None for PyKEEN's samplers
    """

    def __init__(
        self, path: Path, num_entities: int, num_relations: int, target: str | None, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._factory = CoreTriplesFactory(
            torch.from_numpy(np.load(path)), num_entities, num_relations
        )
        self._client: Any = None
        if target is not None:
            from negserve import Client

            self._client = Client(target)
        self._target = target
        self._epochs: dict[tuple[str, str, int], Callable[[int], float]] = {}

    def epoch(self, loop: str, sampler: str, k: int, batches: int) -> dict[str, float]:
        """Train on so many batches of an epoch.

        :param loop: ``pykeen`` or ``plain``
        :param sampler: ``none``, ``bloom`` or ``python-set``, the filter of PyKEEN's; ``server`` or
            ``client``, who computes negserve's
        :return: the duration, in seconds
        """
        key = loop, sampler, k
        if key not in self._epochs:
            make = self._pykeen_loop if loop == "pykeen" else self._plain_loop
            self._epochs[key] = make(sampler, k)
        return {"seconds": self._epochs[key](batches)}

    def _pykeen_loop(self, sampler: str, k: int) -> Callable[[int], float]:
        model = TransE(triples_factory=self._factory, embedding_dim=_DIMENSION, random_seed=0)
        loop = _Loop(model=model, triples_factory=self._factory)
        loop.instances = _SomeBatches(self._factory, self._sampler(sampler, k))

        def train(batches: int) -> float:
            loop.instances.num_batches = batches
            done = len(loop.losses_per_epochs)
            loop.train(
                self._factory, num_epochs=done + 1, batch_size=_BATCH_SIZE, use_tqdm=False,
                pin_memory=False, continue_training=done > 0,
            )  # fmt: skip
            if len(loop.losses_per_epochs) == done:
                raise RuntimeError("PyKEEN did not train")
            # What PyKEEN does before and after takes about a second for any epoch.
            return loop.instances.seconds

        return train

    def _plain_loop(self, sampler: str, k: int) -> Callable[[int], float]:
        loop = _PlainLoop(self._factory.num_entities, self._factory.num_relations)
        if self._client is None:
            instances = _SomeBatches(self._factory, self._sampler(sampler, k))

            def train(batches: int) -> float:
                instances.num_batches = batches
                loader: DataLoader[Any] = DataLoader(instances, batch_size=None)
                return loop.train((each["positives"], each["negatives"], each.get("masks"))
                                  for each in loader)  # fmt: skip

            return train
        from negserve import SamplerConfig
        from negserve.data import TripleStream

        stream = TripleStream(
            self._client.triples_factory("graph", compute=sampler),
            sampler=SamplerConfig(
                kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",)
            ),
            batch_size=_BATCH_SIZE, tail="drop", world_size=1, rank=0,
        )  # fmt: skip
        loader: DataLoader[Any] = DataLoader(stream, batch_size=None)
        taken = (
            (each.positives, each.negatives, each.mask)
            for _ in itertools.count()
            for each in loader
        )
        return lambda batches: loop.train(itertools.islice(taken, batches))

    def _sampler(self, sampler: str, k: int) -> Any:
        """Build a sampler with PyKEEN's interface."""
        graph: dict[str, Any] = {
            "mapped_triples": self._factory.mapped_triples,
            "num_entities": self._factory.num_entities,
            "num_relations": self._factory.num_relations,
            "num_negs_per_pos": k,
        }
        if sampler == "server":
            from negserve.integrations.pykeen import RemoteBernoulliNegativeSampler

            return RemoteBernoulliNegativeSampler(
                **graph, filtered=True, target=self._target, dataset="graph"
            )
        if sampler == "client":
            from negserve.sampling import BernoulliNegativeSampler as Ours

            factory = self._client.triples_factory("graph", compute="client")
            return Ours(factory, k, filtered=True)
        filters = {} if sampler == "none" else {"filtered": True, "filterer": sampler}
        return BernoulliNegativeSampler(**graph, **filters)


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # so that nothing else is printed among the answers
    trainings = Trainings(**json.loads(sys.stdin.readline()))
    print("{}", file=answers)
    for line in sys.stdin:
        print(json.dumps(trainings.epoch(**json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
