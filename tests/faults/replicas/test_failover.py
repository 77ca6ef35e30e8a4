"""Silent, full or lost replicas: every call continues at another replica, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from negserve import Client, ClosedError, OverloadedError, RemoteTriplesFactory, StalledError
from negserve._transport.transport import RetryBudget
from tests.faults.conftest import NUM_TRIPLES as NUM_POSITIVES
from tests.faults.conftest import Servers, expected_digest, open_stream, pieces_of
from tests.support.epochs import union_digest
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import TcpProxy, tcp_proxy
from tests.support.server_process import ServerProcess

TIMEOUT = 0.6
WORLD = load("world")

CALLS: dict[str, Callable[[RemoteTriplesFactory], object]] = {
    "statistics": lambda f: f.relation_statistics.head_probability.tolist(),
    "vocabulary": lambda f: dict(f.entity_to_id),
    "contains": lambda f: f.contains(WORLD.mapped_triples, ("training",)).all(),
    "known": lambda f: f.known(WORLD.mapped_triples[:, 1:], "head", ("training",)).values.tolist(),
    "open_sampler": lambda f: f.open_sampler(num_negs_per_pos=3).config,
    "sample": lambda f: (
        f.open_sampler(num_negs_per_pos=3).sample(WORLD.mapped_triples, 5).replaced.tolist()
    ),
    "epoch": lambda f: [
        batch.positives.tolist() for batch in f.epochs(f.open_sampler().config, prefetch=1)
    ],
    "num_positives": lambda f: f.num_positives((1, 2)),
}


@pytest.fixture
def silent(steady: ServerProcess) -> Iterator[TcpProxy]:
    with tcp_proxy(steady.target) as proxy:
        yield proxy


@pytest.mark.parametrize("name", ["list_datasets", "triples_factory", *CALLS])
@pytest.mark.parametrize("num_silent", [1, 2])
def test_silent_replicas_are_left_with_default_patience(
    silent: TcpProxy, steady: ServerProcess, name: str, num_silent: int
):
    call = CALLS.get(name)
    with Client(steady.target) as client:
        wanted = call(client.triples_factory("world")) if call else None
    silent.silence()
    with Client([silent.target] * num_silent + [steady.last_target], timeout=TIMEOUT) as client:
        if name == "list_datasets":
            begin = time.monotonic()
            assert client.list_datasets() == ["world"]
        elif call is None:
            begin = time.monotonic()
            assert client.triples_factory("world").num_triples == NUM_POSITIVES
        else:
            # The dataset is known already, all else is to be asked.
            silent.lead_to(steady.target)
            factory = client.triples_factory("world")
            silent.silence()
            begin = time.monotonic()
            assert call(factory) == wanted
        assert client.target == steady.last_target
        assert TIMEOUT * 0.9 < time.monotonic() - begin < TIMEOUT * (num_silent + 0.5) + 1


def test_little_patience_is_shared_by_the_replicas(silent: TcpProxy, steady: ServerProcess):
    silent.silence()
    targets = [silent.target, silent.target, steady.target]
    with Client(targets, timeout=1, patience=1) as client:
        begin = time.monotonic()
        assert client.list_datasets() == ["world"]
        assert time.monotonic() - begin < 2


def test_a_stream_leaves_a_replica_that_falls_silent_with_default_patience(
    silent: TcpProxy, steady: ServerProcess
):
    with Client([silent.target, steady.last_target], timeout=TIMEOUT) as client:
        stream = iter(open_stream(client))
        batches = [next(stream)]
        silent.silence()
        batches += stream
    assert union_digest(pieces_of(batches), NUM_POSITIVES) == expected_digest()


def test_only_silence_ends_unary_and_other_calls_in_time(silent: TcpProxy):
    with Client(silent.target, timeout=TIMEOUT, patience=1) as client:
        factory = client.triples_factory("world")
        silent.silence()
        for call in (client.list_datasets, lambda: factory.entity_to_id, factory.open_sampler):
            begin = time.monotonic()
            with pytest.raises(StalledError, match=r"given up after \d+ tries") as caught:
                call()
            assert caught.value.target == silent.target
            assert 1 < time.monotonic() - begin < TIMEOUT + 1 + 1


def test_a_full_replica_is_left_for_one_with_a_place(servers: Servers, steady: ServerProcess):
    full = servers.start("--max-streams", "1")
    with Client(full.target) as holder, Client([full.target, steady.target]) as client:
        held = holder.triples_factory("world").open_sampler()
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=2)
        assert client.target == steady.target
        begin = time.monotonic()
        assert len(sampler.sample(WORLD.mapped_triples, 0).replaced) == NUM_POSITIVES
        assert time.monotonic() - begin < 5
        assert held.sample(WORLD.mapped_triples[:3], 0).replaced.shape == (3, 1)


def test_a_place_is_waited_for_until_patience_ends(servers: Servers):
    full = servers.start("--max-streams", "1")
    with Client(full.target, patience=20) as client:
        factory = client.triples_factory("world")
        held = factory.open_sampler()
        with Client(full.target, patience=0.5) as impatient:
            late = impatient.triples_factory("world")
            begin = time.monotonic()
            with pytest.raises(OverloadedError, match=r"the limit is 1.*given up") as caught:
                late.open_sampler()
            assert caught.value.reason == "TOO_MANY_STREAMS"
            assert 0.4 < time.monotonic() - begin < 5
        threading.Timer(0.5, held.close).start()
        assert len(list(open_stream(client))) == 169


@pytest.mark.parametrize("closes", ["stream", "client"])
def test_closing_during_a_pause_ends_it_at_once(
    steady: ServerProcess, closes: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(RetryBudget, "pause_after", lambda self, error: 30.0)
    before = set(threading.enumerate())
    with tcp_proxy(steady.target) as proxy:
        client = Client(proxy.target, timeout=10, patience=300)
        # Amid the second message: the first one has arrived then, and the trainer takes it.
        proxy.silence_after(1_600_000)
        batches = iter(open_stream(client))
        next(batches)
        assert proxy.struck.wait(10)
        proxy.close()
        pauses = client._transport._state.value.pauses
        deadline = time.monotonic() + 10
        while not pauses._waiters:  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        begin = time.monotonic()
        if closes == "stream":
            batches.close()  # type: ignore[attr-defined]
        else:
            client.close()
            with pytest.raises(ClosedError):
                list(batches)
        assert time.monotonic() - begin < 1
        readers = {t for t in threading.enumerate() if t.name == "negserve-epoch"}
        assert readers <= before
        client.close()


def test_a_call_that_pauses_ends_with_its_client():
    client = Client("127.0.0.1:1", patience=300)
    closing = threading.Timer(1, client.close)
    closing.start()
    begin = time.monotonic()
    with pytest.raises(ClosedError):
        client.list_datasets()
    assert time.monotonic() - begin < 2
    closing.join()


def test_a_vocabulary_is_whole_after_a_cut(steady: ServerProcess):
    with tcp_proxy(steady.target) as proxy, Client(proxy.target) as client:
        factory = client.triples_factory("world")
        proxy.cut_after(10_000)
        assert factory.entity_to_id == WORLD.entity_to_id
        assert factory.relation_to_id == WORLD.relation_to_id
        assert proxy.struck.is_set()


def test_contains_is_whole_after_a_cut(steady: ServerProcess):
    known = np.arange(300_000) % 3 > 0
    triples = WORLD.mapped_triples[np.arange(300_000) % NUM_POSITIVES].copy()
    triples[~known] = 0, 0, 0
    with tcp_proxy(steady.target) as proxy, Client(proxy.target) as client:
        factory = client.triples_factory("world")
        proxy.cut_after(20_000)
        np.testing.assert_array_equal(factory.contains(triples, ("training",)), known)
        assert proxy.struck.is_set()


def test_closing_a_client_ends_its_streams_also_on_a_replica_that_it_left(
    servers: Servers, steady: ServerProcess
):
    full = servers.start("--max-streams", "1")
    client = Client([full.target, steady.last_target], timeout=10)
    factory = client.triples_factory("world")
    batches = iter(open_stream(client))
    next(batches)
    factory.open_sampler()
    assert client.target == steady.last_target
    client.close()
    with pytest.raises(ClosedError):
        list(batches)
    with Client(full.target, patience=2) as other:
        assert other.triples_factory("world").open_sampler().config.num_negs_per_pos == 1
