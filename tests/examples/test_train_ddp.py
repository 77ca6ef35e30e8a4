"""The training example: two ranks learn with one server, and survive a kill."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest
import torch

from negserve_server.graph import TriplesFactory
from tests.support import preloaded
from tests.support.graphs import REPOSITORY, graph_path, load
from tests.support.programs.ranks import Ranks, torchrun
from tests.support.replicated import HOSTS, drawn, replicated
from tests.support.server_process import ServerProcess, server_process

#: 8 epochs of 11 steps.
SHORT = ("--epochs", "8", "--dim", "32", "--negatives", "32", "--save-every", "5")
#: What a short run reaches at least, see docs/training.md.
LEAST_MRR = 0.10
#: What torch imports once an optimizer is made: more than a second.
OF_OPTIMIZERS = ("torch._dynamo",)


def command(server: ServerProcess, checkpoint: Path, *options: str) -> list[str]:
    return [
        *(str(REPOSITORY / "examples" / "train_ddp.py"), "--target", server.target),
        *("--checkpoint", str(checkpoint), *SHORT, *options),
    ]


def start(server: ServerProcess, checkpoint: Path, *options: str, num_ranks: int = 2) -> Ranks:
    return Ranks(
        num_ranks,
        command(server, checkpoint, *options),
        env={"OMP_NUM_THREADS": "1"},
        imports=OF_OPTIMIZERS,
    )


def start_by_torchrun(server: ServerProcess, checkpoint: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *torchrun(), *command(server, checkpoint)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(ranks: Ranks) -> dict[str, float]:
    status, stdout, stderr = ranks.finish(120)
    assert status == 0, stderr
    found = re.findall(r"filtered MRR (\w+) (\d\.\d+)", stdout)
    return {split: float(mrr) for split, mrr in found}


def filtered_mrr(weights: dict[str, torch.Tensor], graph: TriplesFactory, split: str) -> float:
    """Rank query by query: ComplEx, both sides, all splits known, ties as half."""
    entities, relations = (
        torch.complex(*weights[name].double().chunk(2, dim=1)) for name in ("entities", "relations")
    )
    known = defaultdict(list)
    for h, r, t in (row for each in graph.splits.values() for row in each.tolist()):
        known["tail", h, r].append(t)
        known["head", r, t].append(h)
    reciprocals = []
    for h, r, t in graph.splits[split].tolist():
        tails = ((entities[h] * relations[r]) @ entities.conj().T).real
        heads = (entities @ (relations[r] * entities[t].conj())).real
        for scores, target, answers in (
            (tails, t, known["tail", h, r]),
            (heads, h, known["head", r, t]),
        ):
            others = torch.ones(len(scores), dtype=torch.bool)
            others[answers] = False
            above = (scores > scores[target])[others].sum().item()
            ties = (scores == scores[target])[others].sum().item()
            reciprocals.append(1 / (1 + above + ties / 2))
    return sum(reciprocals) / len(reciprocals)


def descendants(pid: int) -> list[int]:
    """The launcher's ranks lead sessions of their own, so no process group holds all."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def kill_midway(process: subprocess.Popen[str], checkpoint: Path) -> int:
    """Kill the launcher and its ranks once a checkpoint exists; return the checkpoint's step."""
    until = time.monotonic() + 90
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    for pid in descendants(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=30)
    return int(torch.load(checkpoint, weights_only=True)["step"])


def test_a_killed_run_goes_on_to_the_same_weights(server: ServerProcess, tmp_path: Path):
    paths = tmp_path / "whole.pt", tmp_path / "killed.pt"
    mrr = finish(start(server, paths[0]))
    assert set(mrr) == {"validation", "testing"}
    assert min(mrr.values()) > LEAST_MRR
    assert 0 < kill_midway(start_by_torchrun(server, paths[1]), paths[1]) < 88
    assert finish(start(server, paths[1])) == mrr
    whole, resumed = (torch.load(path, weights_only=True) for path in paths)
    assert whole["step"] == resumed["step"] == 88
    assert whole["stream"] == resumed["stream"] == {"epoch": 8, "start": 0}
    for name, weights in whole["model"].items():
        assert torch.equal(weights, resumed["model"][name]), name
    graph = load("world")
    for split, printed in mrr.items():
        expected = filtered_mrr(whole["model"], graph, split)
        # What is printed is rounded, and so are scores: one of 600 ranks may differ by a tie.
        assert printed == pytest.approx(expected, abs=1e-3), split


def test_without_spreading_all_ranks_read_from_the_first_address(tmp_path: Path):
    hosts = HOSTS[1], HOSTS[0]  # not in the order of their addresses
    with replicated(tmp_path, hosts=hosts) as replicas:
        targets = [each.server.target for each in replicas.by_host.values()]
        options = ("--epochs", "2", "--no-spread", "--target", *targets)
        finish(start(replicas.by_host[hosts[0]].server, tmp_path / "run.pt", *options))
        preferred, other = (drawn(replicas.by_host[host]) for host in hosts)
    assert preferred > 0
    assert other == 0


def test_help_needs_no_torchrun():
    program = str(REPOSITORY / "examples" / "train_ddp.py")
    env = {name: value for name, value in os.environ.items() if name != "RANK"}
    shown = preloaded.run([program, "--help"], env=env, timeout=120)
    assert shown.returncode == 0
    assert "--checkpoint" in shown.stdout
    refused = preloaded.run([program], env=env, timeout=120)
    assert refused.returncode == 2
    assert "start it with torchrun" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_run_over_a_living_ones_checkpoint_is_refused(
    server: ServerProcess, tmp_path: Path
):
    """A later run is not refused, however the first one ended: see the test above."""
    path = tmp_path / "run.pt"
    first = start(server, path, "--epochs", "100000", "--save-every", "1")
    try:
        until = time.monotonic() + 200
        while not path.exists():
            assert first.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        status, _, stderr = start(server, path).finish(120)
        assert status == 1
        assert f"another run writes the checkpoint {path}; stop it" in stderr
        assert first.poll() is None
    finally:
        first.kill()


def test_it_trains_on_a_benchmark_graph(tmp_path: Path):
    folder = graph_path("codex-s")
    for split in ("valid", "test"):  # 500 triples of each, since ranking all takes longest
        (path,) = folder.glob(f"{split}.txt*")
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt") as source, opened(tmp_path / path.name, "wt") as some:
            some.writelines(islice(source, 500))
    with server_process("--dataset", f"codex-s={folder}") as server:
        # 195 steps, in 3 epochs: twice as many as in a short run.
        options = ("--dataset", "codex-s", "--data", str(tmp_path), "--model", "transe")
        mrr = finish(start(server, tmp_path / "run.pt", *options, "--epochs", "3"))
    assert min(mrr.values()) > LEAST_MRR


def test_a_ranks_last_batch_may_be_empty(server: ServerProcess, tmp_path: Path):
    """5,408 triples are two steps of 3 * 901, and 2 more for three ranks."""
    options = ("--epochs", "2", "--batch-size", "901", "--save-every", "1")
    path = tmp_path / "run.pt"
    assert min(finish(start(server, path, *options, num_ranks=3)).values()) > 0
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["step"] == 6
    assert checkpoint["stream"] == {"epoch": 2, "start": 0}
    assert all(weights.isfinite().all() for weights in checkpoint["model"].values())
