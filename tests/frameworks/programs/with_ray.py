"""Cases of Ray Train, on two workers of a Ray cluster that ends with the program."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchTrainer, prepare_data_loader
from torch.utils.data import DataLoader

from negserve.data import TripleLoader, TripleStream
from tests.support.shares import BATCH_SIZE, SAMPLER, pairs


def train(config: dict[str, str]) -> None:
    """Run one rank."""

    def stream_of(form: Any) -> TripleStream:
        return TripleStream(
            config["target"], "world", SAMPLER, batch_size=BATCH_SIZE, form=form
        )  # fmt: skip

    def own_loader() -> Any:
        loader = TripleLoader(stream_of("compact"))
        return [*pairs(loader), *pairs(loader)]

    def own_loader_resumed() -> Any:
        loader, again = (TripleLoader(stream_of("compact")) for _ in range(2))
        given = list(islice(loader, 4))
        again.load_state_dict(loader.state_dict())
        return pairs([*given, *again])

    def prepared() -> Any:
        loader = prepare_data_loader(DataLoader(stream_of("tuple"), batch_size=None))
        return [*pairs(loader), *pairs(loader)]

    def prepared_resumed() -> Any:
        """Ray reads a batch ahead, so the current batch's state is the right one."""
        loader = prepare_data_loader(DataLoader(stream_of("batch"), batch_size=None))
        given = list(islice(loader, 4))
        stream = stream_of("batch")
        stream.load_state_dict(given[-1].state)
        again = prepare_data_loader(DataLoader(stream, batch_size=None))
        return pairs([*given, *again])

    def state_of_a_prepared_stream() -> Any:
        stream = stream_of("tuple")
        for _ in prepare_data_loader(DataLoader(stream, batch_size=None)):
            return stream.state_dict()
        return None

    results: dict[str, Any] = {}
    for case in (
        own_loader, own_loader_resumed, prepared, prepared_resumed, state_of_a_prepared_stream
    ):  # fmt: skip
        try:
            results[case.__name__] = case()
        except Exception as error:
            results[case.__name__] = f"{type(error).__name__}: {error}"
    rank = get_context().get_world_rank()
    torch.save(results, Path(config["folder"]) / f"{rank}.results")


if __name__ == "__main__":
    target, folder = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        TorchTrainer(
            train,
            train_loop_config={"target": target, "folder": folder},
            scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(storage_path=str(Path(folder) / "ray")),
        ).fit()
    finally:
        ray.shutdown()
