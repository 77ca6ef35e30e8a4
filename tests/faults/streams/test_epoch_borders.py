"""Promise 5 from one epoch to the next, on one stream: before, at and after the border."""

from __future__ import annotations

import itertools
from functools import cache

import pytest

from negserve import Client, EpochConfig, EpochStream, SamplerConfig
from negserve._protocol.epoch_progress import chained_digest
from tests.faults.conftest import Servers
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

PATIENCE = 60.0
NUM_EPOCHS = 3
#: Some MB an epoch: the next one is not complete before this one is over.
SAMPLER = SamplerConfig(num_negs_per_pos=1000, filter_splits=("training",), seed=23)
#: Three workers, of which this one is not the last: within an epoch another one goes on.
CONFIGS = (
    EpochConfig(batch_size=200),
    EpochConfig(batch_size=100, rank=1, world_size=2, worker=1, num_workers=3),
)


@cache
def expected_digest(config: EpochConfig) -> str:
    """Digest of the undisturbed epochs, made in process one by one."""
    digest = ""
    for number in range(NUM_EPOCHS):
        epoch = load("world").epoch(SAMPLER, config, number=number)
        for index in range(len(epoch)):
            digest = chained_digest(digest, epoch.batch(index))
    return digest


def num_batches(config: EpochConfig) -> int:
    return len(load("world").epoch(SAMPLER, config))


def open_stream(client: Client, config: EpochConfig) -> EpochStream:
    return client.triples_factory("world").epochs(SAMPLER, config, prefetch=2, digest=True)


def read_on(stream: EpochStream) -> None:
    while stream.epoch < NUM_EPOCHS:
        list(stream)


@pytest.mark.parametrize("config", CONFIGS)
def test_undisturbed(steady: ServerProcess, config: EpochConfig):
    with Client(steady.target) as client:
        stream = open_stream(client, config)
        read_on(stream)
        assert stream.digest == expected_digest(config)


@pytest.mark.parametrize("how", ["kill", "terminate"])
@pytest.mark.parametrize("config", CONFIGS)
def test_a_server_lost_around_each_border(servers: Servers, config: EpochConfig, how: str):
    """Before the last batch, after it, between the epochs, and after the first one of the next."""
    whole = num_batches(config)
    server = servers.start()
    with Client(server.target, timeout=10, patience=PATIENCE) as client:
        stream = open_stream(client, config)
        for taken in (whole - 1, whole, None, 1):
            if taken is None:
                list(stream)
            else:
                batches = iter(stream)
                list(itertools.islice(batches, taken))
            getattr(server, how)()
            server = servers.start(listen=server.target)
            if taken is not None:
                list(batches)
        assert stream.epoch == NUM_EPOCHS + 1
        again = open_stream(client, config)
        for _ in range(NUM_EPOCHS + 1):
            list(again)
        assert stream.digest == again.digest


@pytest.mark.parametrize("config", CONFIGS)
def test_streams_that_end_for_their_age(servers: Servers, config: EpochConfig):
    server = servers.start("--max-stream-seconds", "0.001")
    with Client(server.target, timeout=10, patience=PATIENCE) as client:
        stream = open_stream(client, config)
        read_on(stream)
        assert stream.digest == expected_digest(config)


def test_a_state_from_anywhere_goes_on(steady: ServerProcess):
    (config, _) = CONFIGS
    with Client(steady.target) as client:
        stream = open_stream(client, config)
        while stream.epoch < NUM_EPOCHS:
            list(itertools.islice(stream, 10))
            state, stream = stream.state_dict(), open_stream(client, config)
            stream.load_state_dict(state)
        list(itertools.islice(stream, 0))
        assert stream.epoch == NUM_EPOCHS
        assert stream.digest == expected_digest(config)
