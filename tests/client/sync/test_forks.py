"""Loaders may fork workers, whatever gRPC was used for before and however it handles forks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from negserve import Client, EpochConfig
from negserve._sync import forks
from negserve.sampling import BernoulliNegativeSampler
from tests.support.children.forking_trainer import NUM_COPIES, NUM_EPOCHS, POSITIVE, SAMPLER
from tests.support.graphs import REPOSITORY, load
from tests.support.preloaded import PreloadedProcess
from tests.support.server_process import ServerProcess

#: None leaves it to gRPC.
FORK_SUPPORT = (None, "0", "1")
_SECONDS = 90


def run(
    server: ServerProcess, case: str, fork_support: str | None, folder: Path
) -> list[torch.Tensor]:
    """Run a case of the forking trainer; return its columns, and end all its processes."""
    env = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    if fork_support is not None:
        env["GRPC_ENABLE_FORK_SUPPORT"] = fork_support
    path = folder / "columns.pt"
    module = "tests.support.children.forking_trainer"
    with (folder / "stderr").open("w+") as stderr:
        process = PreloadedProcess(
            ["-m", module, server.target, case, str(path)],
            env=env, cwd=REPOSITORY, stderr=stderr, start_new_session=True,
            # Or each worker of each loader imports it.
            imports=("negserve.sampling.compiled_expansion", "numba"),
        )  # fmt: skip
        try:
            status = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        stderr.seek(0)
        assert status == 0, f"{'hung' if status is None else status}: {stderr.read()}"
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("fork_support", FORK_SUPPORT)
@pytest.mark.parametrize(
    "case", ["stream_by_address", "stream_of_a_used_factory", "sampling_meanwhile"]
)
def test_a_stream_in_forked_workers_gives_each_triple_once(
    server: ServerProcess, client: Client, tmp_path: Path, case: str, fork_support: str | None
):
    positives, negatives, mask = run(server, case, fork_support, tmp_path)
    stream = client.triples_factory("world").epochs(SAMPLER, EpochConfig(batch_size=400))
    wanted = [batch for _ in range(NUM_EPOCHS) for batch in stream]
    np.testing.assert_array_equal(positives, np.concatenate([b.positives for b in wanted]))
    np.testing.assert_array_equal(negatives, np.concatenate([b.negative_triples() for b in wanted]))
    np.testing.assert_array_equal(mask, np.concatenate([b.negatives.mask for b in wanted]))
    training = load("world").mapped_triples
    for epoch in positives.split(len(training)):
        np.testing.assert_array_equal(np.unique(epoch, axis=0), np.unique(training, axis=0))


@pytest.mark.parametrize("fork_support", FORK_SUPPORT)
def test_a_sampler_told_the_positions_draws_in_workers_as_anywhere(
    server: ServerProcess, tmp_path: Path, fork_support: str | None
):
    positives, negatives, mask = run(server, "collate_with_positions", fork_support, tmp_path)
    graph = load("world")
    triples = torch.from_numpy(graph.mapped_triples.copy())
    sampler = BernoulliNegativeSampler(graph, 5, filtered=True, seed=3)
    wanted, wanted_mask = sampler.sample(triples, position=0)
    for epoch in range(NUM_EPOCHS):
        part = slice(epoch * len(triples), (epoch + 1) * len(triples))
        assert torch.equal(positives[part], triples)
        assert torch.equal(negatives[part], wanted)
        assert torch.equal(mask[part], wanted_mask)
    assert len(positives) == NUM_EPOCHS * len(triples)


@pytest.mark.parametrize("fork_support", FORK_SUPPORT)
def test_a_sampler_that_counts_by_itself_never_repeats_a_position_in_another_worker(
    server: ServerProcess, tmp_path: Path, fork_support: str | None
):
    positives, negatives = run(server, "collate", fork_support, tmp_path)
    assert positives.tolist() == [list(POSITIVE)] * NUM_COPIES * NUM_EPOCHS
    # Equal positives, so that equal rows of 5 of 2571 entities mean equal positions.
    assert len(torch.unique(negatives, dim=0)) == NUM_COPIES * NUM_EPOCHS
    _, again = run(server, "collate", fork_support, tmp_path)
    assert torch.equal(again, negatives), "each run draws the same"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_may_close_what_threads_of_its_parent_use(server: ServerProcess):
    with Client(server.target) as client:
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=5)
        before = sampler.sample([POSITIVE], 0).replaced

        def close() -> None:
            sampler.close()
            client.close()

        process = multiprocessing.get_context("fork").Process(target=close)
        # As threads hold them now and then.
        with sampler._opened.value.lock, client._transport._state.value.lock:
            process.start()
        process.join(30)
        status = process.exitcode
        process.kill()
        assert status == 0
        np.testing.assert_array_equal(sampler.sample([POSITIVE], 0).replaced, before)


def test_a_client_may_be_collected_while_another_one_connects(server: ServerProcess):
    """The garbage collector runs in any thread at any time, also while a channel opens."""
    collected = Client(server.target)
    collected.list_datasets()
    opened: list[object] = []

    def connect() -> None:
        opened.append(forks.open_channel(server.target, (), lambda _: collected.close()))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(10)
    assert opened, "hung"
    channel, _ = opened[0]  # type: ignore[misc]
    channel.close()


def test_threads_of_grpc_have_the_known_names(server: ServerProcess):
    """The names are private to gRPC: a version with others needs them in forks."""
    program = """
import sys, threading
from pathlib import Path
from negserve import Client

def names():
    return {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}

before = names()
with Client(sys.argv[1]) as client:
    sampler = client.triples_factory("world").open_sampler()
    print(*sorted(names() - before), sep=",")
    print(*(thread.name for thread in threading.enumerate()), sep=",")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, server.target],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    grpc_threads, python_threads = (set(line.split(",")) for line in done.stdout.splitlines())
    assert "event_engine" in grpc_threads
    assert grpc_threads <= forks.GRPC_THREADS
    assert any(name.endswith(forks.GRPC_PYTHON_THREAD) for name in python_threads)
