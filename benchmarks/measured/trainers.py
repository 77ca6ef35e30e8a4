"""A server in a process of its own, and trainers that take a batch of it a step."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.remote import SERVE
from benchmarks.support.children import HERE, Serving, ask, family, started
from negserve import Client, EpochConfig, SamplerConfig
from negserve._protocol import messages
from negserve._transport.credentials import open_channel
from negserve.v1 import sampler_pb2 as pb
from negserve_server.sizing.costs import Call

RANKS = 8
#: Small batches come many in a message, which lasts for many steps; more often, to have enough.
_LONGEST = 0.3
#: Small batches, of which the rate of one event loop follows.
_SMALL = (16, 1)
_ROUNDS, _SECONDS = 3, 2.0
_OPENED = 500
_METHOD = "/negserve.v1.SamplerService/SampleEpoch"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Served(Serving):
    """A running server."""

    def resident_bytes(self) -> int:
        """Return its memory, with what its further processes do not share with it.

        Pages of files are counted whole, even if other servers of the machine map them, too.
        """
        first, *further = family(self.pid)
        return _mapped_bytes(first, "Rss:") + sum(_mapped_bytes(pid, "Private_") for pid in further)


def _mapped_bytes(pid: int, name: str) -> int:
    """Sum the bytes of lines of a process's memory map."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(name))


@contextmanager
def administrator() -> Iterator[tuple[str, ...]]:
    """Let this process administer servers that are started with the options that are yielded."""
    token = secrets.token_hex(16)
    digest = hashlib.sha256(token.encode()).hexdigest()
    entry = f'[[token]]\nname = "benchmark"\nsha256 = "{digest}"\nscopes = ["sample", "admin"]\n'
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(entry)
        file.flush()
        os.environ["NEGSERVE_TOKEN"] = token
        try:
            yield "--token-file", file.name
        finally:
            del os.environ["NEGSERVE_TOKEN"]


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    """Run a server until the block ends."""
    with started(HERE, "negserve_server.cli", *SERVE, *options) as process:
        assert process.stdout is not None
        yield Served(process.stdout.readline().split()[-1], process.pid)


def touch(server: Served) -> None:
    """Read an epoch, so that no page of the graph is touched for the first time later."""
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=8, filter_splits=("training",))
    epoch = EpochConfig(batch_size=8192)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    with closing(open_channel(grpc, server.target, _OPTIONS)) as channel:
        stream: Any = channel.unary_stream(_METHOD)
        for _ in stream(request):
            pass


def _epoch_batches(
    target: str, config: SamplerConfig, batch_size: int, rank: int
) -> Generator[int, None, None]:
    """Read epoch after epoch; each step is a message, of so many batches.

    By gRPC alone: the client's buffers hold seconds of small batches, which would be missing.
    """
    epoch = EpochConfig(batch_size=batch_size, rank=rank, world_size=RANKS)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    with closing(open_channel(grpc, target, _OPTIONS)) as channel:
        stream: Any = channel.unary_stream(_METHOD)
        while True:
            for answer in stream(request):
                yield len(pb.SampleEpochResponse.FromString(answer).batches.batches)


def _sample_batches(
    target: str,
    positives: NDArray[np.int64],
    config: SamplerConfig,
    batch_size: int,
    rank: int,
) -> Generator[int, None, None]:
    """Send one batch of triples after another; each step is its answer."""
    batches = np.split(positives, range(batch_size, len(positives), batch_size))[:-1]
    options = {field.name: getattr(config, field.name) for field in fields(config)}
    with Client(target) as client:
        sampler = client.triples_factory("graph").open_sampler(**options)
        for number in itertools.count(rank * len(batches) // RANKS):
            at = number % len(batches)
            sampler.sample(batches[at], at)
            yield 1


@contextmanager
def paced(
    server: Served,
    positives: NDArray[np.int64],
    call: Call,
    config: SamplerConfig,
    batch_size: int,
    step: float,
) -> Iterator[None]:
    """Let trainers take a batch a step, until the block ends.

    :param positives: what `sample` is asked for, of shape (n, 3)
    :param step: its duration, in seconds
    """
    batches_of = (
        partial(_epoch_batches, server.target, config, batch_size)
        if call == "epoch"
        else partial(_sample_batches, server.target, positives, config, batch_size)
    )
    is_over = threading.Event()

    def train(rank: int) -> None:
        due = time.perf_counter() + step * rank / RANKS
        with closing(batches_of(rank)) as taken:
            for batches in taken:
                due = max(due + min(batches * step, _LONGEST), time.perf_counter() - step)
                if is_over.wait(max(0.0, due - time.perf_counter())):
                    return

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def loop_rate(server: Served, call: Call) -> float:
    """Return the rate of small batches of one process, of clients that do not decode them."""
    batch_size, k = _SMALL
    config = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
    if call == "sample":
        command = [sys.executable, "-m", "benchmarks.measured.light_client", server.target]
        client = subprocess.Popen(
            [*command, str(batch_size), str(k), str(RANKS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            return _highest_rate(lambda: ask(client))
        finally:
            assert client.stdin is not None
            client.stdin.close()
            client.wait(30)
    epoch = EpochConfig(batch_size=batch_size)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    counts, is_over = [0] * RANKS, threading.Event()

    def read(rank: int) -> None:
        with grpc.insecure_channel(server.target, options=_OPTIONS) as channel:
            stream: Any = channel.unary_stream(_METHOD)
            while not is_over.is_set():
                for answer in (answers := stream(request)):
                    counts[rank] += len(pb.SampleEpochResponse.FromString(answer).batches.batches)
                    if is_over.is_set():
                        answers.cancel()
                        return

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    try:
        return _highest_rate(lambda: sum(counts))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _highest_rate(count: Callable[[], int]) -> float:
    rates = []
    while count() < 10 * RANKS:
        time.sleep(0.01)
    for _ in range(_ROUNDS):
        begin, before = time.perf_counter(), count()
        time.sleep(_SECONDS)
        rates.append((count() - before) / (time.perf_counter() - begin))
    return max(rates)


def stream_seconds(server: Served) -> float:
    """Measure the processor time of opening and ending a stream with one small message."""
    config = SamplerConfig(kind="bernoulli", filter_splits=("training",))
    epoch = EpochConfig(batch_size=8, world_size=2**16, rank=1)
    request = messages.encode_epoch_request("graph", "", config, epoch, 0, 0).SerializeToString()
    with grpc.insecure_channel(server.target, options=_OPTIONS) as channel:
        stream: Any = channel.unary_stream(_METHOD)
        for _ in range(50):
            list(stream(request))
        before = server.busy()
        for _ in range(_OPENED):
            list(stream(request))
        return (server.busy() - before) / _OPENED
