"""The batch script for SLURM, whose commands stand-ins run on addresses of loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.graphs import REPOSITORY
from tests.support.programs.ranks import Ranks, free_port
from tests.support.server_process import ServerProcess

NODES = ("127.0.0.1", "127.0.0.2")
SCRIPT = REPOSITORY / "examples" / "train_slurm.sh"
EXAMPLE = REPOSITORY / "examples" / "train_ddp.py"
#: Two epochs on as many ranks as nodes.
SHORT = ("--epochs", "2", "--dim", "8", "--negatives", "8")

#: Runs the tasks of a step, each with the variables that SLURM gives it; SIGTERM is passed on.
_SRUN = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift; done
tasks=()
for i in 0 1; do
  nodes=(NODES)
  SLURM_PROCID=$i SLURM_LOCALID=0 SLURM_NTASKS=2 SLURMD_NODENAME=${nodes[i]} "$@" &
  tasks+=($!)
done
trap 'kill "${tasks[@]}"' TERM
status=0
for task in "${tasks[@]}"; do
  until wait "$task" || ! kill -0 "$task" 2>/dev/null; do :; done
  wait "$task" 2>/dev/null || status=$?
done
exit $status
"""
#: Writes the arguments of a rank to a file, and is the example.
_TELLING = f"""
import os, runpy, sys
with open(f"{{__file__}}.{{os.environ['RANK']}}", "w") as told:
    print(*sys.argv[1:], file=told, end="")
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
"""
_SCONTROL = """#!/bin/bash
[[ $* == "show hostnames nodes[1-2]" ]] && printf '%s\\n' NODES
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """Variables of a job on two nodes."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL)):
        (commands / name).write_text(text.replace("NODES", " ".join(NODES)))
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "SLURM_JOB_NODELIST": "nodes[1-2]",
        "SERVER_PORT": str(free_port()),
        "MASTER_PORT": str(free_port()),
        "EXAMPLE": str(EXAMPLE),
        "OMP_NUM_THREADS": "1",
    }


def run(job: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *options], env=job, capture_output=True, text=True, timeout=240, check=False
    )


def refuses(host: str, port: str) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((host, int(port))) != 0


def test_a_job_trains_from_a_replica_on_each_node_and_ends_them(
    job: dict[str, str], server: ServerProcess, tmp_path: Path
):
    """Each rank gets the replica of its node first."""
    kept, example = tmp_path / "job.pt", tmp_path / "example.py"
    example.write_text(_TELLING)
    options = (*SHORT, "--checkpoint", str(kept))
    done = run({**job, "EXAMPLE": str(example)}, *options)
    assert done.returncode == 0, done.stderr
    port = job["SERVER_PORT"]
    targets = [f"{node}:{port}" for node in NODES]
    assert f"2 replicas: {' '.join(targets)}\n" in done.stdout
    assert "filtered MRR validation" in done.stdout
    assert all(refuses(node, port) for node in NODES)
    told = [(tmp_path / f"example.py.{rank}").read_text() for rank in range(2)]
    assert told == [
        " ".join(["--no-spread", "--target", own, *targets, *options]) for own in targets
    ]

    expected = tmp_path / "expected.pt"
    command = [str(EXAMPLE), "--target", server.target, *SHORT, "--checkpoint", str(expected)]
    status, _, errors = Ranks(2, command, imports=("torch._dynamo",)).finish(120)
    assert status == 0, errors
    trained, wanted = (torch.load(each, weights_only=True)["model"] for each in (kept, expected))
    assert trained.keys() == wanted.keys()
    for name, weights in wanted.items():
        assert torch.equal(trained[name], weights), name


def test_a_job_whose_servers_fail_ends_with_their_error(job: dict[str, str]):
    done = run({**job, "NEGSERVE_SERVE_DATASET": "nothing=/nowhere"}, *SHORT)
    assert done.returncode != 0
    assert "/nowhere" in done.stderr
    assert "replicas:" not in done.stdout
