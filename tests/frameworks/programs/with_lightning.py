"""Cases of Lightning, on two ranks started by torchrun."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from negserve.data import TripleLoader, TripleStream
from tests.support.programs.ranks import Cases
from tests.support.shares import BATCH_SIZE, SAMPLER, pairs

cases = Cases()
_Loader = Callable[[], Any]


class Model(lightning.LightningModule):
    """Records the batches that it is given."""

    def __init__(self, loader: _Loader) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.loader = loader
        self.given: list[Any] = []

    def train_dataloader(self) -> Any:
        return self.loader()

    def training_step(self, batch: Any) -> torch.Tensor:
        self.given += pairs([batch])
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def stream_of(**options: Any) -> TripleStream:
    options = {"batch_size": BATCH_SIZE, "form": "tuple", **options}
    return TripleStream(cases.target, "world", SAMPLER, **options)


def trainer_of(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=True, num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **options},
    )  # fmt: skip


def two_epochs(loader: _Loader) -> Any:
    model = Model(loader)
    trainer_of(max_epochs=2).fit(model)
    return model.given


def resumed(name: str, loader: _Loader) -> Any:
    """Save a checkpoint after step 4 of the second epoch, train on, and resume from it."""
    kept = ModelCheckpoint(dirpath=cases.folder / name, every_n_train_steps=15, save_top_k=1)
    first = Model(loader)
    options = {"callbacks": [kept], "enable_checkpointing": True}
    trainer_of(max_steps=18, **options).fit(first)
    again = Model(loader)
    trainer_of(max_epochs=2).fit(again, ckpt_path=kept.best_model_path, weights_only=False)
    return [*first.given[:15], *again.given]


def own() -> Any:
    return TripleLoader(stream_of(form="compact"))


def own_with_workers() -> Any:
    return TripleLoader(stream_of(form="compact"), num_workers=2)


def plain() -> Any:
    return DataLoader(stream_of(), batch_size=None)


def plain_with_workers() -> Any:
    return DataLoader(stream_of(), batch_size=None, num_workers=2)


def stateful() -> Any:
    return StatefulDataLoader(stream_of(), batch_size=None)


@cases.add
def own_loader() -> Any:
    return two_epochs(own_with_workers)


@cases.add
def own_loader_resumed() -> Any:
    return resumed("own", own)


@cases.add
def own_loader_with_workers_resumed() -> Any:
    return resumed("own_with_workers", own_with_workers)


@cases.add
def plain_loader() -> Any:
    return two_epochs(plain)


@cases.add
def plain_loader_with_workers() -> Any:
    return two_epochs(plain_with_workers)


@cases.add
def plain_loader_resumed() -> Any:
    return resumed("plain", plain)


@cases.add
def stateful_loader_resumed() -> Any:
    return resumed("stateful", stateful)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    cases.write(int(os.environ["RANK"]))
