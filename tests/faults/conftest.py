"""Servers to kill, proxies to cut, and the expected results."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache

import pytest

from negserve import Client, EpochBatch, EpochConfig, EpochStream, SamplerConfig
from tests.support.epochs import Piece, piece, undisturbed_digest
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

#: 256 KB a batch, 43 MB an epoch: far more than what lies ready between server and client.
SAMPLER = SamplerConfig(num_negs_per_pos=4000, filter_splits=("training",), seed=17)
BATCH_SIZE = 32
NUM_TRIPLES = len(load("world").mapped_triples)

_QUIET = ("--threads", "1", "--log-level", "warning", "--drain-seconds", "0.5")


@cache
def expected_digest(sampler: SamplerConfig = SAMPLER) -> str:
    """SHA-256 of the undisturbed epoch 0."""
    return undisturbed_digest(load("world"), sampler)


def pieces_of(batches: list[EpochBatch]) -> list[Piece]:
    return [piece(batch, NUM_TRIPLES) for batch in batches]


def open_stream(client: Client, rank: int = 0, world_size: int = 1) -> EpochStream:
    """Return one rank's stream of SAMPLER."""
    config = EpochConfig(batch_size=BATCH_SIZE, rank=rank, world_size=world_size)
    return client.triples_factory("world").epochs(SAMPLER, config, prefetch=1)


class Servers:
    """Starts server processes, and ends them with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, *options: str, listen: str = "127.0.0.1:0") -> ServerProcess:
        """Start a server, on the address of an ended one or on a free one."""
        return self._stack.enter_context(server_process(*_QUIET, *options, listen=(listen,)))

    def start_two(self) -> tuple[ServerProcess, ServerProcess]:
        """Start two servers at once; a stream of rank 0 begins at the first one."""
        with ThreadPoolExecutor(2) as threads:
            started = threads.map(lambda _: self.start(), range(2))
        one, other = sorted(started, key=lambda server: server.target)
        return one, other


@pytest.fixture
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(scope="session")
def steady() -> Iterator[ServerProcess]:
    """A server that is never harmed; only the proxies before it are."""
    with server_process(*_QUIET) as running:
        yield running
