"""The Lightning example: its data module resumes at the right batch, and ranks share an epoch."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from tests.support.graphs import REPOSITORY, load
from tests.support.preloaded import PreloadedProcess
from tests.support.server_process import ServerProcess

NUM_TRIPLES = 5408
#: 22 steps of an epoch, so that checkpoints lie within epochs.
EPOCHS, STEPS, SAVE_EVERY = 6, 22, 5
_SECONDS = 120


class Run:
    """The example in separate processes: a launcher, its ranks and their workers."""

    def __init__(self, server: ServerProcess, checkpoint: Path, *options: str) -> None:
        self.checkpoint = checkpoint
        command = [
            str(REPOSITORY / "examples" / "lightning_datamodule.py"),
            *("--target", server.target, "--checkpoint", str(checkpoint), "--accelerator", "cpu"),
            *("--dim", "16", "--negatives", "8", *options),
        ]
        self._log = checkpoint.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = PreloadedProcess(
                command,
                cwd=checkpoint.parent,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
                imports=["lightning", "torch._dynamo"],  # torch's for optimizers
            )

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def finish(self) -> str:
        try:
            status = self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        said = self._log.read_text()
        assert status == 0, said
        return said

    def kill_within_an_epoch(self) -> int:
        """Kill it once a checkpoint exists; return the checkpoint's step."""
        until = time.monotonic() + _SECONDS
        try:
            while not self.checkpoint.exists():
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < until
                time.sleep(0.002)
        finally:
            self.kill()
        return int(read(self.checkpoint)["global_step"])


def read(checkpoint: Path) -> dict[str, Any]:
    # Our own file; Lightning keeps more in it than weights.
    content: dict[str, Any] = torch.load(checkpoint, weights_only=False)
    return content


def loader_states(checkpoint: Path) -> list[dict[str, int]]:
    states: list[dict[str, int]] = read(checkpoint)["loops"]["fit_loop"]["state_dict"][
        "combined_loader"
    ]
    return states


def test_a_killed_run_goes_on_to_the_same_weights(server: ServerProcess, tmp_path: Path):
    options = ("--epochs", str(EPOCHS), "--save-every", str(SAVE_EVERY), "--workers", "2")
    whole, killed = tmp_path / "whole.ckpt", tmp_path / "killed.ckpt"
    said = Run(server, whole, *options).finish()
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", said)]
    assert len(losses) == EPOCHS
    assert losses[-1] < losses[0] / 2
    step = Run(server, killed, *options).kill_within_an_epoch()
    assert 0 < step < EPOCHS * STEPS
    assert step % STEPS != 0
    assert loader_states(killed) == [{"epoch": step // STEPS, "start": step % STEPS * 256}]
    said = Run(server, killed, *options).finish()
    assert "not resumable" not in said
    left = NUM_TRIPLES - step % STEPS * 256
    assert f"epoch {step // STEPS}: {left} triples" in said
    assert read(killed)["global_step"] == read(whole)["global_step"] == EPOCHS * STEPS
    assert loader_states(killed) == loader_states(whole) == [{"epoch": EPOCHS, "start": 0}]
    for name, weights in read(whole)["state_dict"].items():
        assert torch.equal(weights, read(killed)["state_dict"][name]), name


def test_two_ranks_share_each_epoch(server: ServerProcess, tmp_path: Path):
    said = Run(server, tmp_path / "run.ckpt", "--epochs", "2", "--devices", "2").finish()
    assert load("world").num_triples == NUM_TRIPLES
    assert re.findall(r"epoch (\d): (\d+) triples", said) == [
        ("0", str(NUM_TRIPLES)),
        ("1", str(NUM_TRIPLES)),
    ]
    assert read(tmp_path / "run.ckpt")["global_step"] == 2 * -(-NUM_TRIPLES // 512)


def test_a_ranks_last_batch_may_be_empty(server: ServerProcess, tmp_path: Path):
    options = ("--epochs", "2", "--devices", "3", "--batch-size", "901")
    said = Run(server, tmp_path / "run.ckpt", *options).finish()
    losses = re.findall(r"epoch \d: 5408 triples, loss (\S+)", said)
    assert len(losses) == 2
    assert all(0 < float(loss) < 10 for loss in losses)
    for weights in read(tmp_path / "run.ckpt")["state_dict"].values():
        assert weights.isfinite().all()
