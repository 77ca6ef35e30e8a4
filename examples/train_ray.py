"""Train a model with Ray Train: a replica of negserve on each node, trainers beside them.

``python examples/train_ray.py --address auto --ranks 2 --storage /shared/run``

Each trainer reads from the replica of its node, and from another one if that is lost. If a node is
lost with its trainers, Ray starts them again elsewhere: they go on from the last checkpoint, and
end with the weights of a run that was never interrupted, bit by bit. See ``docs/training.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from negserve import Client, SamplerConfig
from negserve.data import TripleLoader, TripleStream

_EMBEDDING = 32


class Replica:
    """A server of negserve on the node of this actor; it ends with it.

    :param options: of ``negserve-server serve``, with the graph
    """

    def __init__(self, options: list[str]) -> None:
        # The kernel ends the server with this process, also if that is killed.
        command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "negserve_server.cli"]
        here: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        address = f"{here}:0"
        self._process = subprocess.Popen(
            [*command, "serve", "--listen", address, *options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"negserve-server ended with status {self._process.wait()}")
        self._target = line.split()[-1]

    def target(self) -> str:
        """Return its address."""
        return self._target


def start_replicas(options: list[str]) -> tuple[dict[str, str], list[Any]]:
    """Start a replica on each node that has processors.

    :return: their addresses by node, and what keeps them running
    """
    found = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["NodeID"] for node in found if node["Alive"] and node["Resources"].get("CPU")]
    actor: Any = ray.remote(num_cpus=0.5)(Replica)
    replicas = [
        actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            options
        )
        for node in nodes
    ]
    targets = ray.get([replica.target.remote() for replica in replicas])
    return dict(zip(nodes, targets, strict=True)), replicas


def nearest_first(targets: dict[str, str]) -> list[str]:
    """Return all addresses, that of this node first."""
    here = ray.get_runtime_context().get_node_id()
    return sorted(targets.values(), key=lambda target: target != targets.get(here))


class DistMult(nn.Module):
    """A bilinear model (Yang et al. 2015)."""

    def __init__(self, num_entities: int, num_relations: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.entities = nn.Parameter(torch.randn(num_entities, _EMBEDDING, generator=generator))
        self.relations = nn.Parameter(torch.randn(num_relations, _EMBEDDING, generator=generator))

    def forward(self, triples: Tensor) -> Tensor:
        """Score triples, int64, shape (..., 3) to float32, shape (...)."""
        heads, relations, tails = triples.unbind(-1)
        return (self.entities[heads] * self.relations[relations] * self.entities[tails]).sum(-1)


def train(config: dict[str, Any]) -> None:
    """Train on this rank."""
    torch.set_num_threads(1)
    targets = nearest_first(config["targets"])
    # The nearest while it is there: streams are not spread over the others.
    client = Client(targets, spread=False)
    factory = client.triples_factory(config["dataset"])
    model = DistributedDataParallel(DistMult(factory.num_entities, factory.num_relations))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    sampler = SamplerConfig(num_negs_per_pos=config["negatives"], filter_splits=("training",))
    # Its rank is that of torch.distributed, which Ray has set up.
    stream = TripleStream(factory, sampler=sampler, batch_size=config["batch_size"], form="compact")
    step = 0
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            kept = torch.load(Path(folder) / "state.pt", weights_only=True)
        model.module.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        stream.load_state_dict(kept["stream"])
        step = kept["step"]
    loader = TripleLoader(stream)
    loss = torch.zeros(())

    def report(state: dict[str, int]) -> None:
        """Keep a checkpoint of rank 0; all ranks have to report."""
        digest = hashlib.sha256()
        for weights in model.parameters():
            digest.update(weights.detach().numpy().tobytes())
        metrics = {
            "epoch": state["epoch"], "step": step, "loss": float(loss.detach()),
            "weights": digest.hexdigest(),
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            kept = None
            if ray.train.get_context().get_world_rank() == 0:
                parts = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({**parts, "stream": state, "step": step}, Path(folder) / "state.pt")
                kept = Checkpoint.from_directory(folder)
                print("epoch {epoch}, step {step}, loss {loss:.3f}".format_map(metrics))
            ray.train.report(metrics, checkpoint=kept)

    rank, nearest = ray.train.get_context().get_world_rank(), targets[0]
    while stream.epoch < config["epochs"]:
        for batch in loader:
            if step == 0:
                print(f"rank {rank} beside {nearest} reads from {client.target}")
            scores = model(torch.cat([batch.positives.unsqueeze(1), batch.negatives], dim=1))
            loss = (scores.logsumexp(1) - scores[:, 0]).sum() / config["batch_size"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % config["save_every"] == 0:
                report(batch.state)
    report(stream.state_dict())
    client.close()


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="of a Ray cluster, such as auto; default: a local one")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--negatives", type=int, default=32, help="negatives per positive")
    parser.add_argument("--batch-size", type=int, default=256, help="positives per rank")
    parser.add_argument("--save-every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--storage", required=True, help="folder or URL that all nodes reach")
    parser.add_argument("--dataset", default="world", help="name of the dataset in --serve")
    parser.add_argument(
        "--serve", default="", metavar="OPTIONS",
        help="of negserve-server serve: --serve='--insecure --repository /shared/graphs'",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Start the replicas, and train."""
    options = arguments()
    ray.init(address=options.address)
    targets, replicas = start_replicas(shlex.split(options.serve))
    print(f"{len(replicas)} replicas: {', '.join(targets.values())}", flush=True)
    result = TorchTrainer(
        train,
        train_loop_config={
            "targets": targets,
            "dataset": options.dataset,
            "epochs": options.epochs,
            "negatives": options.negatives,
            "batch_size": options.batch_size,
            "save_every": options.save_every,
        },
        scaling_config=ScalingConfig(num_workers=options.ranks, placement_strategy="SPREAD"),
        run_config=RunConfig(
            storage_path=options.storage,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=-1),
        ),
    ).fit()
    assert result.metrics is not None
    print(f"steps {result.metrics['step']}, weights {result.metrics['weights']}")


if __name__ == "__main__":
    main()
