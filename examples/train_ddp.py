"""Train an embedding model on several ranks with negatives from a shared server.

``torchrun --nproc-per-node 2 examples/train_ddp.py --target 127.0.0.1:7733 --checkpoint run.pt``

Started again with the same arguments, it resumes from the checkpoint and ends with the same
weights, bit by bit, as a run that was never interrupted. See ``docs/training.md``.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from negserve import Client, RemoteTriplesFactory, SamplerConfig
from negserve.data import TripleLoader, TripleStream
from negserve.evaluation import evaluate

Split = Literal["validation", "testing"]
_STEMS: dict[Split, str] = {"validation": "valid", "testing": "test"}
#: Queries ranked at once: each makes num_entities * dim numbers on the way to its scores.
_RANKED_AT_ONCE = 32
_EPSILON = 1e-9


class Model(nn.Module):
    """Embeddings and a score; a higher score means a more likely triple.

    :param dim: real numbers per embedding, even
    :param seed: seed of the initial embeddings
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = ((num_entities, dim), (num_relations, dim))
        entities, relations = (torch.randn(s, generator=generator) / dim**0.5 for s in shapes)
        self.entities = nn.Parameter(entities)
        self.relations = nn.Parameter(relations)

    def score(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Score embeddings of triples, float32, shapes (..., dim) to (...)."""
        raise NotImplementedError

    def forward(self, triples: Tensor) -> Tensor:
        """Score triples, int64, shape (..., 3) to float32, shape (...)."""
        heads, tails = self.entities[triples[..., 0]], self.entities[triples[..., 2]]
        return self.score(heads, self.relations[triples[..., 1]], tails)

    def score_all(self, pairs: Tensor, slot: str) -> Tensor:
        """Score every entity as the head or tail of queries, as ``evaluate`` asks for it.

        :param pairs: the two given ids, in the order head, relation, tail, shape (n, 2)
        :param slot: ``head`` or ``tail``
        :return: shape (n, num_entities)
        """
        first, second = pairs[:, 0, None], pairs[:, 1, None]
        if slot == "tail":
            return self.score(self.entities[first], self.relations[second], self.entities[None])
        return self.score(self.entities[None], self.relations[first], self.entities[second])


def _complex(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    real, imaginary = embeddings.chunk(2, dim=-1)
    return real, imaginary


class TransE(Model):
    """Minus the L1 distance of head + relation and tail (Bordes et al. 2013)."""

    def score(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Score embeddings."""
        return -(heads + relations - tails).abs().sum(-1)


class ComplEx(Model):
    """Real part of head * relation * conjugate of tail (Trouillon et al. 2016)."""

    def score(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Score embeddings."""
        (a, b), (c, d), (e, f) = _complex(heads), _complex(relations), _complex(tails)
        return ((a * c - b * d) * e + (a * d + b * c) * f).sum(-1)


class RotatE(Model):
    """Minus the distance of the head, turned by the relation, and the tail (Sun et al. 2019)."""

    def score(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Score embeddings; the first half of a relation's numbers are angles."""
        (a, b), (angles, _), (e, f) = _complex(heads), _complex(relations), _complex(tails)
        c, d = angles.cos(), angles.sin()
        real, imaginary = a * c - b * d - e, a * d + b * c - f
        return -(real * real + imaginary * imaginary + _EPSILON).sqrt().sum(-1)


MODELS: dict[str, type[Model]] = {"transe": TransE, "complex": ComplEx, "rotate": RotatE}


def held_out(factory: RemoteTriplesFactory, folder: Path, split: Split) -> NDArray[np.int64]:
    """Read held-out triples, shape (n, 3), from valid or test, as text, plain or gzip.

    :raises SystemExit: if they are not the server's triples
    """
    paths = [folder / f"{_STEMS[split]}.txt{ending}" for ending in ("", ".gz")]
    data = next(path for path in paths if path.exists()).read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    rows = [line.split("\t") for line in text.splitlines()]
    entities, relations = factory.entity_to_id, factory.relation_to_id
    triples = np.array(
        [
            (entities[h], relations[r], entities[t])
            for h, r, t in rows
            if h in entities and r in relations and t in entities
        ],
        dtype=np.int64,
    )
    if not factory.contains(triples, [split]).all():
        raise SystemExit(f"{folder} is not the server's data; give the same folder with --data")
    return triples


def loss_of(model: nn.Module, positives: Tensor, negatives: Tensor) -> Tensor:
    """Return the cross entropy of each positive among its negatives, summed; (m, 3), (m, k, 3)."""
    scores = model(torch.cat([positives.unsqueeze(1), negatives], dim=1))
    loss: Tensor = (scores.logsumexp(1) - scores[:, 0]).sum()
    return loss


def save(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint atomically: a kill leaves the new or the previous one."""
    temporary = beside(path, ".tmp")
    torch.save(checkpoint, temporary)
    os.replace(temporary, path)


def beside(path: Path, ending: str) -> Path:
    """Name a file that belongs to a checkpoint: its path with an ending appended."""
    return path.with_name(path.name + ending)


@contextmanager
def sole_run(path: Path | None) -> Iterator[None]:
    """Keep other runs away from a checkpoint while this one lives.

    Rank 0 holds a file lock, which the system releases when the process ends.

    :raises SystemExit: on all ranks, if another run has the lock
    """
    refusal: list[str | None] = [None]
    with open(os.devnull if path is None else beside(path, ".lock"), "w") as lock:
        if path is not None and distributed.get_rank() == 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                refusal = [
                    f"another run writes the checkpoint {path}; stop it, or name another checkpoint"
                ]
        distributed.broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise SystemExit(refusal[0])
        yield


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--target", nargs="+", default=["127.0.0.1:7733"], help="address of the server, or several"
    )
    parser.add_argument(
        "--no-spread",
        action="store_true",
        help="read from the first address while it answers, and do not spread ranks over all",
    )
    parser.add_argument("--dataset", default="world", help="name of the dataset there")
    parser.add_argument("--data", type=Path, help="folder of its files; default: that of world")
    parser.add_argument("--model", choices=MODELS, default="complex")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--dim", type=int, default=64, help="size of an embedding, even")
    parser.add_argument("--negatives", type=int, default=64, help="negatives per positive")
    parser.add_argument("--batch-size", type=int, default=256, help="positives per rank")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=0, help="loading processes per rank")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="file to save to and to resume from")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start it with torchrun --nproc-per-node RANKS examples/train_ddp.py ...")
    return options


def steps(loader: TripleLoader, epochs: int, seen: int) -> Iterator[tuple[int, Any]]:
    """Yield the batches until an epoch ends, each with its number."""
    while loader.stream.epoch < epochs:
        for batch in loader:
            seen += 1
            yield seen, batch


def train(options: argparse.Namespace) -> None:
    """Train on this rank."""
    rank = distributed.get_rank()
    folder = options.data or Path(str(resources.files("negserve_server.graph") / "world"))
    with Client(options.target, spread=not options.no_spread) as client:
        factory = client.triples_factory(options.dataset)
        model = MODELS[options.model](
            factory.num_entities, factory.num_relations, options.dim, options.seed
        )
        sampler = SamplerConfig(
            num_negs_per_pos=options.negatives, filter_splits=("training",), seed=options.seed
        )
        stream = TripleStream(
            factory, sampler=sampler, batch_size=options.batch_size, form="compact"
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
        step = seen = 0
        if options.checkpoint and options.checkpoint.exists():
            checkpoint = torch.load(options.checkpoint, weights_only=True)
            model.load_state_dict(checkpoint["model"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            stream.load_state_dict(checkpoint["stream"])
            step = seen = checkpoint["step"]
        distributed.barrier()  # all ranks read the checkpoint before one writes it
        loader = TripleLoader(stream, num_workers=options.workers)
        parallel = DistributedDataParallel(model)

        def keep(state: dict[str, int]) -> None:
            if options.checkpoint and rank == 0:
                parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                save(options.checkpoint, {**parts, "stream": state, "step": step})

        with Progress(disable=rank != 0) as progress:
            task = progress.add_task(options.model, total=options.epochs * factory.num_triples)
            for step, batch in steps(loader, options.epochs, seen):
                # Divided by a constant: the last batch may be shorter on one rank, or empty, and
                # the mean of nothing is NaN.
                loss = loss_of(parallel, batch.positives, batch.negatives) / options.batch_size
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                state = batch.state
                done = state["epoch"] * factory.num_triples + state["start"]
                progress.update(
                    task, completed=done, description=f"loss {float(loss.detach()):.3f}"
                )
                if step % options.save_every == 0:
                    keep(state)
        keep(stream.state_dict())
        for split in _STEMS:
            triples = held_out(factory, folder, split)
            # All ranks share the queries and get the same report.
            report = evaluate(model.score_all, factory, triples, batch_size=_RANKED_AT_ONCE)
            if rank == 0:
                mrr = report.metric("inverse_harmonic_mean_rank")
                print(f"filtered MRR {split} {mrr:.4f}")


def main() -> None:
    """Make runs deterministic, and train."""
    options = arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    distributed.init_process_group("gloo")
    try:
        with sole_run(options.checkpoint):
            train(options)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
