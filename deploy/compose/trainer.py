"""Train a small model on two ranks, which read from different replicas; of docker-compose.yml.

Needs only negserve, without torch. NEGSERVE_TARGET names the replicas. While it trains, either may
be stopped: the other one continues its stream, and the weights at the end are the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from negserve import Client, EpochBatch, EpochConfig, NegserveError, SamplerConfig

DATASET = "world"
NUM_RANKS = 2
SAMPLER = SamplerConfig(kind="bernoulli", num_negs_per_pos=32, filter_splits=("training",), seed=1)
DIMENSION = 32
LEARNING_RATE = 0.1
NUM_EPOCHS = int(os.environ.get("NUM_EPOCHS", "5"))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class DistMult:
    """A bilinear model with logistic loss (Yang et al., ICLR 2015), trained by Adagrad."""

    def __init__(self, num_entities: int, num_relations: int) -> None:
        rng = np.random.default_rng(0)
        self.tables: tuple[Floats, Floats] = (
            rng.normal(0, 0.1, (num_entities, DIMENSION)),
            rng.normal(0, 0.1, (num_relations, DIMENSION)),
        )
        self._squares = tuple(np.full(len(table), 1e-6) for table in self.tables)

    def step(self, triples: Ints, labels: Floats, weights: Floats) -> float:
        """Take a step towards labels 1 and 0; return the loss before it.

        :param triples: shape (n, 3)
        :param labels: shape (n,)
        :param weights: of the triples in the loss, shape (n,)
        """
        entities, relations = self.tables
        heads, which, tails = triples.T
        head, relation, tail = entities[heads], relations[which], entities[tails]
        scores = (head * relation * tail).sum(1)
        loss = float((weights * np.logaddexp(0, np.where(labels > 0, -scores, scores))).sum())
        slope = (weights * (1 / (1 + np.exp(-scores)) - labels))[:, None]
        self._descend(0, heads, slope * relation * tail)
        self._descend(0, tails, slope * relation * head)
        self._descend(1, which, slope * head * tail)
        return loss

    def _descend(self, which: int, rows: Ints, gradient: Floats) -> None:
        table, squares = self.tables[which], self._squares[which]
        total = np.zeros_like(table)
        np.add.at(total, rows, gradient)
        squares += (total**2).mean(1)
        table -= LEARNING_RATE * total / np.sqrt(squares)[:, None]


def main() -> None:
    """Train, with a line for each epoch, and print a digest of the weights."""
    targets = os.environ.get("NEGSERVE_TARGET", "127.0.0.1:7733").split(",")
    with ExitStack() as stack:
        streams = []
        for rank in range(NUM_RANKS):
            client = stack.enter_context(Client(targets))
            factory = client.triples_factory(DATASET)
            config = EpochConfig(batch_size=64, rank=rank, world_size=NUM_RANKS)
            streams.append(factory.epochs(SAMPLER, config))
        model = DistMult(factory.num_entities, factory.num_relations)
        for epoch in range(NUM_EPOCHS):
            losses = [train(model, batches) for batches in zip(*streams, strict=True)]
            print(f"epoch {epoch}: loss {np.mean(losses):.4f}", flush=True)
    weights = hashlib.sha256(b"".join(table.tobytes() for table in model.tables)).hexdigest()
    print(f"trainer: {NUM_RANKS} ranks, {len(targets)} replicas, weights {weights}")


def train(model: DistMult, batches: tuple[EpochBatch, ...]) -> float:
    """Take a step with the batches of all ranks; return the loss."""
    positives = np.concatenate([batch.positives for batch in batches])
    negatives = np.concatenate([batch.negatives.triples(batch.positives) for batch in batches])
    n, k, _ = negatives.shape
    triples = np.concatenate([positives, negatives.reshape(-1, 3)])
    is_true = np.arange(len(triples)) < n
    weights = np.where(is_true, 1.0, 1.0 / k) / max(n, 1)
    return model.step(triples, is_true.astype(np.float64), weights)


if __name__ == "__main__":
    try:
        main()
    except NegserveError as error:
        sys.exit(f"trainer: {type(error).__name__}: {error}")
