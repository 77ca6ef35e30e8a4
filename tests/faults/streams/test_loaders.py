"""Loaders with workers: replicas are lost, runs interrupted; each position comes exactly once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from negserve import Client, EpochBatch, EpochConfig, SamplerConfig, StalledError, UnavailableError
from negserve.data import TripleBatch, TripleLoader, TripleStream
from tests.faults.conftest import NUM_TRIPLES, Servers
from tests.support.loader_errors import raised_by_workers
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess

SAMPLER = SamplerConfig(num_negs_per_pos=500, filter_splits=("training",), seed=8)
#: 43 MB an epoch: far more than what lies ready between server and trainer.
LARGE = SamplerConfig(num_negs_per_pos=4000)
BATCH_SIZE = 32
NUM_BATCHES = 169

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def stream_of(*targets: str, patience: float = 60, timeout: float = 10) -> TripleStream:
    client = Client(targets, timeout=timeout, patience=patience)
    return TripleStream(client, "world", SAMPLER, batch_size=BATCH_SIZE, prefetch=1)


def loader_of(stream: TripleStream, num_workers: int, **options: Any) -> TripleLoader:
    if num_workers:
        options = {"multiprocessing_context": "fork", "prefetch_factor": 1, **options}
    return TripleLoader(stream, num_workers=num_workers, **options)


def expected(server: ServerProcess, *epochs: int) -> list[EpochBatch]:
    batches = []
    with Client(server.target) as client:
        stream = client.triples_factory("world").epochs(SAMPLER, EpochConfig(batch_size=BATCH_SIZE))
        for epoch in epochs:
            stream.load_state_dict({"epoch": epoch, "start": 0})
            batches += list(stream)
    return batches


def assert_equal(batches: Iterable[TripleBatch], wanted: list[EpochBatch]) -> None:
    for ours, theirs in zip(batches, wanted, strict=True):
        assert (ours.epoch, ours.next_start) == (theirs.epoch, theirs.next_start)
        np.testing.assert_array_equal(ours.positives, theirs.positives)
        np.testing.assert_array_equal(ours.negatives, theirs.negative_triples())


@pytest.mark.parametrize(
    ("num_workers", "options"),
    [
        (0, {}),
        (2, {}),
        (2, {"persistent_workers": True}),
        (2, {"multiprocessing_context": "forkserver", "persistent_workers": True}),
    ],
)
def test_a_replica_is_killed_in_the_middle_of_an_epoch(
    servers: Servers, steady: ServerProcess, num_workers: int, options: dict[str, Any]
):
    doomed = servers.start()
    loader = loader_of(stream_of(doomed.target, steady.target), num_workers, **options)
    batches = []
    for batch in loader:
        batches.append(batch)
        if len(batches) == 20:
            doomed.kill()
        assert loader.state_dict() == batch.state
    assert len(batches) == NUM_BATCHES
    batches += loader
    assert_equal(batches, expected(steady, 0, 1))


@pytest.mark.parametrize("persistent", [False, True])
def test_a_run_goes_on_from_its_state_with_other_workers(steady: ServerProcess, persistent: bool):
    """What workers had read ahead is read again by others: nothing is lost or repeated."""
    batches: list[TripleBatch] = []
    state = {"epoch": 0, "start": 0}
    for number, (num_workers, count) in enumerate([(3, 10), (2, 37), (0, 5), (1, 60), (4, 500)]):
        options = {"persistent_workers": persistent} if num_workers else {}
        # Each time as after a restart: all that is kept is the state.
        loader = loader_of(stream_of(steady.target), num_workers, **options)
        loader.load_state_dict(state)
        for taken, batch in enumerate(loader, start=1):
            batches.append(batch)
            if taken == count:
                break
        state = loader.state_dict()
        assert state == batches[-1].state
        assert (state["epoch"] == 1) == (number == 4)
    assert_equal(batches, expected(steady, 0))
    assert sum(len(batch.positives) for batch in batches) == NUM_TRIPLES


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_is_left_and_resumed_repeatedly(steady: ServerProcess, persistent: bool):
    loader = loader_of(stream_of(steady.target), 3, persistent_workers=persistent)
    batches = []
    for count in (1, 1, 1, 27, 1, 1, 1, 136, 20, 149):
        for taken, batch in enumerate(loader, start=1):
            batches.append(batch)
            if taken == count:
                break
    assert_equal(batches, expected(steady, 0, 1))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_that_gave_up_say_why(servers: Servers, num_workers: int):
    server = servers.start()
    stream = stream_of(server.target, patience=1)
    stream.sampler = LARGE
    loader = iter(loader_of(stream, num_workers))
    next(loader)
    server.kill()
    with raised_by_workers(UnavailableError, match="given up after"):
        list(loader)


def test_silence_reaches_the_trainer_as_a_typed_error(steady: ServerProcess):
    with tcp_proxy(steady.target) as proxy:
        stream = stream_of(proxy.target, patience=0.5, timeout=0.5)
        stream.sampler = LARGE
        loader = iter(loader_of(stream, 2))
        next(loader)
        proxy.silence()
        with raised_by_workers(StalledError, match="no message for"):
            list(loader)


def test_leaving_a_loader_during_a_pause_does_not_wait(servers: Servers):
    server = servers.start()
    stream = stream_of(server.target)
    stream.sampler = LARGE
    loader = iter(loader_of(stream, 0))
    next(loader)
    server.kill()
    time.sleep(1)  # the reader pauses between two tries
    begin = time.monotonic()
    loader.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begin < 1
