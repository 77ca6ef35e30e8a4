"""The example of Ray Train: replicas and trainers on two nodes, one of which is lost."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from negserve import Client, SamplerConfig
from negserve.data import TripleStream
from tests.support.graphs import REPOSITORY
from tests.support.server_process import ServerProcess

EPOCHS, BATCH_SIZE, NEGATIVES = 2, 256, 32
IN_NAMESPACE = ("unshare", "--net", "--map-root-user")


def weights_without_ray(server: ServerProcess) -> str:
    """Train on two ranks in this process: the gradient is the mean of theirs."""
    path = REPOSITORY / "examples" / "train_ray.py"
    spec = spec_from_file_location("train_ray", path)
    assert spec is not None
    assert spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    with Client(server.target) as client:
        factory = client.triples_factory("world")
        model = example.DistMult(factory.num_entities, factory.num_relations)
        optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
        sampler = SamplerConfig(num_negs_per_pos=NEGATIVES, filter_splits=("training",))
        ranks = [
            TripleStream(factory, sampler=sampler, batch_size=BATCH_SIZE, rank=rank, world_size=2)
            for rank in range(2)
        ]
        for _ in range(EPOCHS):
            for batches in zip(*ranks, strict=True):
                gradients = []
                for batch in batches:
                    triples = torch.cat([batch.positives.unsqueeze(1), batch.negatives], dim=1)
                    scores = model(triples)
                    loss = (scores.logsumexp(1) - scores[:, 0]).sum() / BATCH_SIZE
                    gradients.append(torch.autograd.grad(loss, list(model.parameters())))
                for weights, first, second in zip(model.parameters(), *gradients, strict=True):
                    weights.grad = (first + second) / 2
                optimizer.step()
    digest = hashlib.sha256()
    for weights in model.parameters():
        digest.update(weights.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sum gradients in one order, as the example does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_namespace() -> tuple[str, ...]:
    """What runs a command in a network namespace of its own; skips the test where there is none.

    Ray's nodes would use the network. Where the environment has NEGSERVE_REQUIRE_NAMESPACES, the
    test fails instead.
    """
    say = pytest.fail if os.environ.get("NEGSERVE_REQUIRE_NAMESPACES") else pytest.skip
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            say(f"there is no {program}: apt-get install util-linux iproute2")
    done = subprocess.run([*IN_NAMESPACE, "true"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        say(f"a network namespace can't be made here: {done.stderr.strip()}")
    return IN_NAMESPACE


def test_a_training_goes_on_when_a_node_with_its_replica_is_lost(
    server: ServerProcess, tmp_path: Path, one_thread: None, in_namespace: tuple[str, ...]
):
    script = 'ip link set lo up && exec "$0" -m tests.frameworks.programs.with_ray_cluster "$@"'
    options = ("--epochs", str(EPOCHS), "--save-every", "3", "--negatives", str(NEGATIVES))
    done = subprocess.run(
        [*in_namespace, "sh", "-c", script, sys.executable, str(tmp_path / "run"), *options],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HOME": str(tmp_path),  # Ray keeps a token there
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",  # no idle process for each processor
            "RAY_DEDUP_LOGS": "0",  # the lines of the ranks differ in numbers only
        },
        cwd=REPOSITORY,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "2 replicas: 127.0.0.1:" in done.stdout
    before, after = done.stdout.split("a node is lost")
    reads = re.findall(r"rank (\d) beside (\S+) reads from (\S+)", before)
    assert {rank for rank, *_ in reads} == {"0", "1"}
    assert all(nearest == target for _, nearest, target in reads)
    assert len({target for *_, target in reads}) == 2, reads
    assert "step 12, loss" in before
    # Begun again from a checkpoint, though that may be older than the last that was printed.
    assert "step 3, loss" not in after
    assert f"steps 22, weights {weights_without_ray(server)}" in after
