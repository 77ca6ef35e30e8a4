"""Train with Lightning on negatives from a shared server.

``python examples/lightning_datamodule.py --target 127.0.0.1:7733 --checkpoint run.ckpt``

Started again with the same arguments, it resumes from the checkpoint, after the last batch that was
trained on. Needs ``pip install lightning``. See ``docs/ecosystem.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from negserve import Client, SamplerConfig
from negserve.data import TripleBatch, TripleLoader, TripleStream


class TripleDataModule(lightning.LightningDataModule):
    """The training triples of a dataset on a server, with their negatives.

    :param target: address of the server
    :param dataset: name of the dataset there
    :param sampler: configuration of the negatives
    :param batch_size: positives per batch of one rank
    :param num_workers: loading processes per rank
    """

    def __init__(
        self,
        target: str,
        dataset: str,
        sampler: SamplerConfig,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.target = target
        self.dataset = dataset
        self.sampler = sampler
        self.batch_size = batch_size
        self.num_workers = num_workers
        with Client(target) as client:
            graph = client.triples_factory(dataset)
            self.num_entities, self.num_relations = graph.num_entities, graph.num_relations

    def train_dataloader(self) -> TripleLoader:
        """Return this rank's loader, which expands batches on the training's device.

        A TripleLoader has a state, which Lightning saves in its checkpoints. It also has a length;
        without one, Lightning would fetch one batch ahead, and the state would be one batch ahead.
        """
        assert self.trainer is not None
        # Created here, as torch.distributed knows the ranks only after Lightning has started them.
        stream = TripleStream(
            self.target, self.dataset, self.sampler, batch_size=self.batch_size, form="compact"
        )
        device = self.trainer.strategy.root_device
        return TripleLoader(
            stream, device=device, num_workers=self.num_workers, pin_memory=device.type == "cuda"
        )


class TransE(lightning.LightningModule):
    """Embeddings whose score is minus the L1 distance of head + relation and tail.

    :param batch_size: positives of a full batch, the divisor of its loss
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int, batch_size: int) -> None:
        super().__init__()
        self.entities = nn.Embedding(num_entities, dim)
        self.relations = nn.Embedding(num_relations, dim)
        for embedding in (self.entities, self.relations):
            nn.init.normal_(embedding.weight, std=dim**-0.5)
        self.batch_size = batch_size
        self.num_seen, self.total_loss = 0, 0.0

    def forward(self, triples: Tensor) -> Tensor:
        """Score triples, int64, shape (..., 3) to float32, shape (...)."""
        heads, tails = self.entities(triples[..., 0]), self.entities(triples[..., 2])
        distance: Tensor = (heads + self.relations(triples[..., 1]) - tails).abs().sum(-1)
        return -distance

    def training_step(self, batch: TripleBatch) -> Tensor:
        """Return the cross entropy of each positive among its negatives, summed over positives."""
        scores = self(torch.cat([batch.positives.unsqueeze(1), batch.negatives], dim=1))
        # Divided by a constant: the last batch may be shorter on one rank, or empty, and the mean
        # of nothing is NaN.
        loss: Tensor = (scores.logsumexp(1) - scores[:, 0]).sum() / self.batch_size
        self.num_seen += len(batch.positives)
        self.total_loss += float(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Print how many triples all ranks together have seen."""
        seen = self.all_gather(torch.tensor([float(self.num_seen), self.total_loss]))
        assert isinstance(seen, Tensor)
        num_seen, loss = seen.view(-1, 2).sum(0).tolist()
        loss *= self.batch_size / num_seen
        self.print(f"epoch {self.current_epoch}: {num_seen:.0f} triples, loss {loss:.4f}")
        self.num_seen, self.total_loss = 0, 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def main() -> None:
    """Train, resuming from the checkpoint if it exists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="127.0.0.1:7733", help="address of the server")
    parser.add_argument("--dataset", default="world", help="name of the dataset there")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--dim", type=int, default=64, help="size of an embedding")
    parser.add_argument("--negatives", type=int, default=32, help="negatives per positive")
    parser.add_argument("--batch-size", type=int, default=256, help="positives per rank")
    parser.add_argument("--workers", type=int, default=0, help="loading processes per rank")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1, help="ranks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("run.ckpt"))
    parser.add_argument("--save-every", type=int, default=50, help="steps between checkpoints")
    options = parser.parse_args()

    lightning.seed_everything(options.seed, verbose=False)
    sampler = SamplerConfig(
        num_negs_per_pos=options.negatives, filter_splits=("training",), seed=options.seed
    )
    data = TripleDataModule(
        options.target,
        options.dataset,
        sampler,
        batch_size=options.batch_size,
        num_workers=options.workers,
    )
    model = TransE(data.num_entities, data.num_relations, options.dim, options.batch_size)
    path = options.checkpoint.resolve()
    trainer = lightning.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        strategy="ddp" if options.devices > 1 else "auto",
        max_epochs=options.epochs,
        deterministic=True,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            ModelCheckpoint(
                dirpath=path.parent,
                filename=path.stem,
                every_n_train_steps=options.save_every,
                enable_version_counter=False,
            )
        ],
    )
    trainer.fit(model, data, ckpt_path=str(path) if path.exists() else None)
    trainer.save_checkpoint(path)


if __name__ == "__main__":
    main()
